"""What every test gets: a place of its own, no settings from outside, and no error that was swallowed unseen."""

from __future__ import annotations

import os

import hypothesis
import pytest

from tracking_core import troubles as troubles_module

# A machine that is busy with something else is no error of the code under test.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    """Work in an empty directory, without settings of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("TRACKING_", "WANDB_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def troubles():
    """The troubles that a test expects: (reason, message, error) of everything that was not raised."""
    return []


@pytest.fixture(autouse=True)
def _nothing_swallowed(request):
    """Fail a test during which tracking met trouble, unless it asked for the list of them."""
    seen = request.getfixturevalue("troubles") if "troubles" in request.fixturenames else []

    def listen(reason, message, error):
        seen.append((reason, message, error))

    troubles_module.listeners.append(listen)
    yield
    troubles_module.listeners.remove(listen)
    if "troubles" not in request.fixturenames:
        # What a backend has no place for is no error: it is said, and the local store has it.
        unexpected = [f"{reason}: {message} ({error!r})" for reason, message, error in seen if reason != "fallback"]
        assert not unexpected, "swallowed during the test:\n" + "\n".join(unexpected)
