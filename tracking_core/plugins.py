"""Adapters are found here: by entry point, by name, one at a time.

Asking for `tensorboard` imports the module behind that entry point and no other. Every adapter has a plugin manager
of its own, so that a broken one breaks only itself. First-party adapters come through the same door.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy

from tracking_core.errors import (
    AdapterConflictError,
    AdapterVersionError,
    BrokenAdapterError,
    MissingDependencyError,
    SettingsError,
    UnknownAdapterError,
)
from tracking_core.hookspecs import GROUP, AdapterInfo, AdapterSpec, Finding, RunInfo
from tracking_core.protocol import API_VERSION, CORE_CAPABILITIES, OPTIONAL_CAPABILITIES
from tracking_core.settings import did_you_mean
from tracking_core.targets import COMMON_OPTIONS, Target

if TYPE_CHECKING:
    from tracking_core.protocol import Tracker

#: Adapters that this distribution brings, for the message when the entry point is not even there.
_FIRST_PARTY = ("local", "none", "tensorboard", "wandb")
_CAPABILITIES = frozenset(CORE_CAPABILITIES) | frozenset(OPTIONAL_CAPABILITIES) | {"resume"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry point of the group, not loaded.

    Args:
        name: Name of the adapter.
        value: The module or object it names.
        distribution: Name of the distribution that installed it; "" when unknown.
        version: Version of that distribution.
    """

    name: str
    value: str
    distribution: str
    version: str
    entry_point: importlib.metadata.EntryPoint


class Adapter:
    """An adapter whose module is loaded and whose hooks are checked; its backend is not imported yet."""

    def __init__(self, plugin: Any, name: str, candidate: Candidate | None = None) -> None:
        self.candidate = candidate
        self._manager = pluggy.PluginManager("tracking_core")
        self._manager.add_hookspecs(AdapterSpec)
        where = _where(name, candidate)
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise BrokenAdapterError(f"the adapter {where} does not fit the hooks: {error}") from error
        except Exception as error:
            raise BrokenAdapterError(f"the adapter {where} cannot be registered: {_brief(error)}") from error
        for hook in ("tracking_adapter", "open_tracker"):
            if not getattr(self._manager.hook, hook).get_hookimpls():
                raise BrokenAdapterError(
                    f"the adapter {where} has no hook {hook!r}; mark the function with @tracking_core.hookimpl"
                )
        self.info = self._checked_info(name, where)

    @property
    def name(self) -> str:
        """Name of the adapter."""
        return self.info.name

    def _checked_info(self, name: str, where: str) -> AdapterInfo:
        try:
            info = self._manager.hook.tracking_adapter()
        except Exception as error:
            raise BrokenAdapterError(f"the adapter {where} failed to say what it is: {_brief(error)}") from error
        if not isinstance(info, AdapterInfo):
            raise BrokenAdapterError(
                f"the adapter {where} must return tracking_core.AdapterInfo, got {type(info).__name__}"
            )
        if info.api_version != API_VERSION:
            newer = isinstance(info.api_version, int) and info.api_version > API_VERSION
            remedy = "upgrade tracking-core" if newer else "upgrade the adapter"
            raise AdapterVersionError(
                f"the adapter {where} was built for adapter API {info.api_version}, this is adapter API {API_VERSION}; "
                f"{remedy}"
            )
        if info.name != name:
            raise BrokenAdapterError(f"the adapter {where} calls itself {info.name!r}")
        unknown = sorted((info.capabilities or frozenset()) - _CAPABILITIES)
        if unknown:
            raise BrokenAdapterError(
                f"the adapter {where} names the unknown capability {unknown[0]!r}"
                + did_you_mean(unknown[0], _CAPABILITIES)
                + f"; there are {', '.join(sorted(_CAPABILITIES))}"
            )
        return info

    def missing(self) -> list[str]:
        """The modules it needs that are not installed; found out without importing any."""
        return [module for module in self.info.requires if not _is_installed(module)]

    def check_target(self, target: Target, *, origin: str = "TRACKING_BACKEND") -> None:
        """Check the options of a target, and that what the adapter needs is installed.

        Raises:
            SettingsError: An option is unknown.
            MissingDependencyError: A package is missing.
        """
        known = self.info.options
        if known is not None:
            for option in target.options:
                if option not in known:
                    every = {**known, **COMMON_OPTIONS}
                    raise SettingsError(
                        f"{origin}: the backend {self.name!r} has no option {option!r}"
                        f"{did_you_mean(option, every)}; its options are {', '.join(sorted(every))}"
                    )
        missing = self.missing()
        if missing:
            raise self.dependency_error(missing)

    def dependency_error(self, missing: Sequence[str]) -> MissingDependencyError:
        """The error that says what to install."""
        install = self.info.extra or " ".join(missing)
        return MissingDependencyError(
            f"the backend {self.name!r} needs {', '.join(missing)}, which is not installed: pip install '{install}'"
        )

    def open(self, target: Target, run: RunInfo) -> Tracker:
        """Open a tracker. The backend is imported here.

        Raises:
            MissingDependencyError: A package is missing.
            BrokenAdapterError: The hook returned no tracker.
        """
        missing = self.missing()
        if missing:
            raise self.dependency_error(missing)
        tracker = self._manager.hook.open_tracker(target=target, run=run)
        lacking = [m for m in (*CORE_CAPABILITIES.values(), "finish") if not callable(getattr(tracker, m, None))]
        if lacking:
            raise BrokenAdapterError(
                f"the adapter {self.name!r} opened a {type(tracker).__name__}, which has no method {lacking[0]!r}"
            )
        return tracker

    def diagnose(self, target: Target) -> list[Finding]:
        """What the adapter finds about a target; an adapter without the hook finds nothing."""
        try:
            return list(self._manager.hook.diagnose(target=target) or ())
        except Exception as error:  # noqa: BLE001 - a diagnosis that fails is itself a finding
            return [Finding("error", f"the diagnosis of {self.name!r} failed: {_brief(error)}")]

    def harness(self) -> Any:
        """The contract harness the adapter brings, or None."""
        return self._manager.hook.tracking_harness()

    def supports(self, tracker: Tracker, capability: str) -> bool:
        """Whether a capability is declared and there is a method for it."""
        declared = self.info.capabilities
        if declared is not None and capability not in declared:
            return False
        if capability in OPTIONAL_CAPABILITIES:
            return callable(getattr(tracker, OPTIONAL_CAPABILITIES[capability][1], None))
        return True


def candidates() -> dict[str, list[Candidate]]:
    """All entry points of the group by name; the same distribution found twice on the path counts once."""
    found: dict[str, dict[tuple[str, str], Candidate]] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        dist = entry.dist
        name = dist.metadata["Name"] if dist is not None else ""
        version = dist.version if dist is not None else ""
        key = (name.lower().replace("_", "-"), entry.value)
        found.setdefault(entry.name.lower(), {})[key] = Candidate(entry.name, entry.value, name, version, entry)
    return {name: list(entries.values()) for name, entries in sorted(found.items())}


_LOADED: dict[str, Adapter] = {}
_LOCK = threading.RLock()


def find_adapter(name: str, *, origin: str = "TRACKING_BACKEND") -> Adapter:
    """Load the adapter of a name.

    Args:
        name: What TRACKING_BACKEND says.
        origin: Where the name was written, for the error message.

    Raises:
        UnknownAdapterError: Nothing provides it.
        AdapterConflictError: Two distributions do.
        BrokenAdapterError: Its module cannot be imported, or does not hold the hooks.
        AdapterVersionError: It was built for another version of the API.
    """
    with _LOCK:
        if name in _LOADED:
            return _LOADED[name]
        available = candidates()
        entries = available.get(name, [])
        if not entries:
            raise UnknownAdapterError(_unknown(name, list(available), origin))
        if len(entries) > 1:
            owners = " and ".join(f"{entry.distribution} {entry.version}".strip() for entry in entries)
            raise AdapterConflictError(f"{origin}: the backend {name!r} is provided by {owners}; uninstall one of them")
        adapter = load(entries[0])
        _LOADED[name] = adapter
        return adapter


def load(candidate: Candidate) -> Adapter:
    """Import what an entry point names, and check its hooks."""
    where = _where(candidate.name, candidate)
    try:
        plugin = candidate.entry_point.load()
    except BaseException as error:
        # A module may do anything while it is imported, sys.exit included; only a user's interrupt is passed on.
        if isinstance(error, KeyboardInterrupt):
            raise
        raise BrokenAdapterError(f"the adapter {where} cannot be imported: {_brief(error)}") from error
    return Adapter(plugin, candidate.name.lower(), candidate)


def forget_adapters() -> None:
    """Drop what was loaded, so that a package installed meanwhile is found."""
    with _LOCK:
        _LOADED.clear()


def _unknown(name: str, installed: Sequence[str], origin: str) -> str:
    text = f"{origin}: no backend {name!r} is installed"
    text += did_you_mean(name, [*installed, *_FIRST_PARTY])
    text += f"; installed are {', '.join(sorted(installed)) or 'none'}"
    if name in _FIRST_PARTY or not installed:
        text += ". The entry points of tracking-core itself are missing: reinstall it (pip install tracking-core)"
    return text


def _where(name: str, candidate: Candidate | None) -> str:
    if candidate is None or not candidate.distribution:
        return repr(name)
    return f"{name!r} of {candidate.distribution} {candidate.version}".rstrip()


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def _is_installed(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
