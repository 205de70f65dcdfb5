"""The contract every adapter keeps: named checks in groups, and which of them an adapter has to pass.

A check is a function of one `Context`. Its docstring says what it asserts, why, and what to do when it fails:

```python
@check("scalars.round_trip")
def round_trip(ctx: Context) -> None:
    "Numbers come back as they were logged. …"
```
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracking_core.errors import SettingsError

if TYPE_CHECKING:
    from tracking_core.testing.contract.context import Context
    from tracking_core.testing.contract.harness import AdapterHarness

GROUPS = (
    "discovery",
    "lifecycle",
    "scalars",
    "steps",
    "config",
    "media",
    "histograms",
    "artifacts",
    "resume",
    "faults",
    "hygiene",
)
CORE_GROUPS = frozenset({"discovery", "lifecycle", "scalars", "steps", "hygiene"})
"""Groups that no adapter can be excused from: neither by its capabilities, nor by an expected failure."""


@dataclass(frozen=True, slots=True)
class Check:
    """One named check.

    Args:
        name: "group.what_it_asserts".
        function: Raises `ContractFailure`, or anything else, when the adapter fails it.
        needs: Capabilities without which it does not apply.
        main_thread: Whether it has to run in the thread that called the runner.
    """

    name: str
    function: Callable[[Context], None]
    needs: frozenset[str] = frozenset()
    main_thread: bool = False

    @property
    def group(self) -> str:
        """The part of the name before the dot."""
        return self.name.partition(".")[0]

    @property
    def core(self) -> bool:
        """Whether an adapter cannot be excused from it."""
        return self.group in CORE_GROUPS

    @property
    def doc(self) -> str:
        """What it asserts, why, and what to do when it fails."""
        return inspect.cleandoc(self.function.__doc__ or "")


_REGISTERED: dict[str, Check] = {}


def check(
    name: str, *, needs: Iterable[str] = (), main_thread: bool = False
) -> Callable[[Callable[[Context], None]], Callable[[Context], None]]:
    """Register a function as a check of the contract."""

    def register(function: Callable[[Context], None]) -> Callable[[Context], None]:
        group = name.partition(".")[0]
        assert group in GROUPS, name
        assert name not in _REGISTERED, name
        assert function.__doc__, name
        _REGISTERED[name] = Check(name, function, frozenset(needs), main_thread)
        return function

    return register


def all_checks() -> dict[str, Check]:
    """Every check by name, in the order of the groups."""
    for group in GROUPS:
        importlib.import_module(f"tracking_core.testing.contract.checks.{group}")
    return {one.name: one for group in GROUPS for one in _REGISTERED.values() if one.group == group}


def select_checks(wanted: Iterable[str] | None) -> list[Check]:
    """The checks of some names or groups; None for all.

    Raises:
        SettingsError: There is no check or group of a name.
    """
    every = all_checks()
    if wanted is None:
        return list(every.values())
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in every and name not in GROUPS:
            raise SettingsError(_unknown("checks", name, every))
    return [one for one in every.values() if one.name in names or one.group in names]


def expected_failures(harness: AdapterHarness) -> Mapping[str, str]:
    """The expected failures of a harness, checked.

    Raises:
        SettingsError: One names no check, names a core check, or has no reason.
    """
    every = all_checks()
    where = f"{type(harness).__name__}.expected_failures"
    for name, reason in harness.expected_failures.items():
        if name not in every:
            raise SettingsError(_unknown(where, name, every))
        if every[name].core:
            raise SettingsError(
                f"{where}: {name!r} belongs to the core ({', '.join(sorted(CORE_GROUPS))}), which every adapter must "
                "pass; repair the adapter"
            )
        if not isinstance(reason, str) or not reason.strip():
            raise SettingsError(f"{where}: {name!r} needs a reason: why can it not be fixed?")
    return harness.expected_failures


def _unknown(where: str, name: str, every: Mapping[str, Check]) -> str:
    close = difflib.get_close_matches(name, [*every, *GROUPS], n=1, cutoff=0.6)
    hint = f": did you mean {close[0]!r}?" if close else ""
    return f"{where}: there is no check {name!r}{hint}; the groups are {', '.join(GROUPS)}"
