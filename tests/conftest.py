"""What every test gets: a place of its own, no settings from outside, and no error that was swallowed unseen."""

from __future__ import annotations

import os
import sys

import hypothesis
import pytest

from tracking_core.base import problems as troubles_module
from tracking_core.layout import fallback

# A machine that is busy with something else is no error of the code under test.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")

# Each worker rewrites the asserts of all tests, and hundreds of children import the package: what was compiled is kept,
# also where the environment says otherwise.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(autouse=True)
def _own_place(tmp_path, monkeypatch):
    """Work in an empty directory, without settings of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("TRACKING_", "WANDB_")):
            monkeypatch.delenv(name)
    # What the account remembers is that of the test.
    monkeypatch.setenv("XDG_STATE_HOME", f"{tmp_path}-state")
    # What is recorded elsewhere because its root cannot be written, too.
    monkeypatch.setattr(fallback, "fallback_root", lambda: tmp_path.with_name(f"{tmp_path.name}-elsewhere"))
    monkeypatch.chdir(tmp_path)
    yield
    # What a test installed for itself must not be there for the next.
    plugins = sys.modules.get("tracking_core.backends.plugins")
    if plugins is not None:
        plugins.forget_adapters()
    for name in [name for name in sys.modules if name.partition(".")[0] == "tracking_csv"]:
        del sys.modules[name]


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


@pytest.fixture(autouse=True)
def _no_run_left_open():
    """End the runs that a test leaves open: `current_run` of a later test must not be one of them."""
    yield
    exit_module = sys.modules.get("tracking_core.runs.exit")
    for run in list(exit_module.open_runs) if exit_module is not None else ():
        run.finish("failed", timeout=1.0)


def pytest_make_parametrize_id(config, val, argname):
    """Name a parameter without its address, so that all processes of a run agree on the names of the tests."""
    try:
        shown = repr(val)
    except Exception:
        shown = " at 0x"
    return f"{argname}-{type(val).__name__}" if " at 0x" in shown else None
