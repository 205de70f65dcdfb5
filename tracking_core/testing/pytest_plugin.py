"""The pytest plugin: a `fake_tracker` fixture, and readable failures where two `FakeTracker`s are compared.

It is loaded at the start of every pytest run of an environment that has tracking-core, so it imports nothing else.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tracking_core.testing.fake.tracker import FakeTracker


def pytest_addoption(pluginmanager: Any) -> None:
    """Have the package compiled as it is everywhere: pytest rewrites all of a distribution that brings it a plugin.

    Modules of it are loaded by threads of a run, and some versions of CPython cannot take code apart in two threads.
    """
    marked = getattr(getattr(pluginmanager, "rewrite_hook", None), "_must_rewrite", None)
    if isinstance(marked, set):
        marked.discard("tracking_core")


@pytest.fixture
def fake_tracker() -> FakeTracker:
    """A fresh `FakeTracker`."""
    from tracking_core.testing.fake.tracker import FakeTracker

    return FakeTracker()


def pytest_assertrepr_compare(op: str, left: Any, right: Any) -> list[str] | None:
    """Explain why two fakes are not equal."""
    module = sys.modules.get("tracking_core.testing.fake.tracker")
    if op != "==" or module is None:
        return None
    if not (isinstance(left, module.FakeTracker) and isinstance(right, module.FakeTracker)):
        return None
    return [f"{left!r} == {right!r}", *left.diff(right).splitlines()]
