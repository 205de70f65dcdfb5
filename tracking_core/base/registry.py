"""Plugins of a group of entry points: found by name, loaded one at a time, and checked against their hooks.

Asking for one imports the module behind that entry point and no other. Every plugin has a manager of its own, so that a
broken one breaks only itself.
"""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pluggy

from tracking_core.base.redaction import redact_text
from tracking_core.base.text import did_you_mean
from tracking_core.errors import AdapterConflictError, BrokenAdapterError, UnknownAdapterError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry point of the group, not loaded.

    Args:
        name: Name of the plugin.
        value: The module or object it names.
        distribution: Name of the distribution that installed it; "" when unknown.
        version: Version of that distribution.
    """

    name: str
    value: str
    distribution: str
    version: str
    entry_point: importlib.metadata.EntryPoint


class Registry(Generic[T]):
    """The plugins of one group.

    Args:
        group: Name of the group of entry points.
        spec: The class that specifies the hooks.
        build: Makes of a loaded module, its name and its candidate what users of the registry get.
        kind: What one is called in messages: "adapter".
        asked: What users ask for by its name: "backend".
        own: Names that this distribution brings itself.
    """

    def __init__(
        self,
        group: str,
        spec: type,
        build: Callable[[Any, str, Candidate], T],
        *,
        kind: str,
        asked: str,
        own: Sequence[str] = (),
    ) -> None:
        self.group = group
        self.spec = spec
        self._build = build
        self._kind = kind
        self._asked = asked
        self._own = tuple(own)
        self._loaded: dict[str, T] = {}
        self._lock = threading.Lock()

    def candidates(self) -> dict[str, list[Candidate]]:
        """All entry points of the group by name; the same distribution found twice on the path counts once."""
        found: dict[str, dict[tuple[str, str], Candidate]] = {}
        for entry in self._entry_points():
            name, version = _distribution(entry)
            key = (name.lower().replace("_", "-"), entry.value)
            found.setdefault(entry.name.lower(), {})[key] = Candidate(entry.name, entry.value, name, version, entry)
        return {name: list(entries.values()) for name, entries in sorted(found.items())}

    def find(self, name: str, *, origin: str) -> T:
        """Load the plugin of a name.

        Args:
            name: What the user asked for.
            origin: Where the name was written, for the error message.

        Raises:
            UnknownAdapterError: Nothing provides it.
            AdapterConflictError: Two distributions do.
            BrokenAdapterError: Its module cannot be imported, or does not hold the hooks.
        """
        loaded = self._loaded.get(name)
        if loaded is not None:
            return loaded
        available = self.candidates()
        entries = available.get(name, [])
        if not entries:
            raise UnknownAdapterError(self._unknown(name, list(available), origin))
        if len(entries) > 1:
            raise AdapterConflictError(f"{origin}: {self.conflict(name, entries)}")
        # Not under the lock: a module that never comes back from its import must not keep others from being found.
        plugin = self.load(entries[0])
        with self._lock:
            return self._loaded.setdefault(name, plugin)

    def load(self, candidate: Candidate) -> T:
        """Import what an entry point names, and check its hooks."""
        try:
            plugin = candidate.entry_point.load()
        except BaseException as error:
            # A module may do anything while it is imported, sys.exit included; only a user's interrupt is passed on.
            if isinstance(error, KeyboardInterrupt):
                raise
            where = where_of(candidate.name, candidate)
            raise BrokenAdapterError(f"the {self._kind} {where} cannot be imported: {brief(error)}") from error
        return self._build(plugin, candidate.name.lower(), candidate)

    def manager(self, plugin: Any, name: str, candidate: Candidate | None, required: Sequence[str]) -> Any:
        """A manager with this plugin alone, its hooks checked.

        Args:
            plugin: The module or object.
            name: Name of the plugin.
            candidate: Where it was found; None for one that was passed.
            required: Hooks that it must have.

        Raises:
            BrokenAdapterError: It does not fit.
        """
        where = where_of(name, candidate)
        manager = pluggy.PluginManager("tracking_core")
        manager.add_hookspecs(self.spec)
        try:
            manager.register(plugin, name=name)
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise BrokenAdapterError(f"the {self._kind} {where} does not fit the hooks: {error}") from error
        except Exception as error:
            raise BrokenAdapterError(f"the {self._kind} {where} cannot be registered: {brief(error)}") from error
        for hook in required:
            if not getattr(manager.hook, hook).get_hookimpls():
                raise BrokenAdapterError(
                    f"the {self._kind} {where} has no hook {hook!r}; mark the function with @tracking_core.hookimpl"
                )
        return manager

    def conflict(self, name: str, entries: Sequence[Candidate]) -> str:
        """What to say of a name that several distributions provide."""
        owners = " and ".join(
            f"{entry.distribution} {entry.version}".strip() or f"the entry point {entry.value!r}" for entry in entries
        )
        return f"the {self._asked} {name!r} is provided by {owners}; uninstall one of them"

    def forget(self) -> None:
        """Drop what was loaded, so that a package installed meanwhile is found."""
        with self._lock:
            self._loaded.clear()

    def _unknown(self, name: str, installed: Sequence[str], origin: str) -> str:
        # What stands where a name should may be a key that was pasted into the wrong variable.
        text = f"{origin}: no {self._asked} {redact_text(name)!r} is installed"
        text += did_you_mean(name, [*installed, *self._own])
        text += f"; the installed ones are {', '.join(sorted(installed)) or 'none'}"
        if name in self._own or (self._own and not installed):
            text += ". The entry points of tracking-core itself are missing: reinstall it (pip install tracking-core)"
        return text

    def _entry_points(self) -> Iterable[importlib.metadata.EntryPoint]:
        try:
            return importlib.metadata.entry_points(group=self.group)
        except Exception:  # noqa: BLE001 - one distribution with a damaged list must not hide the others
            return self._readable_entry_points()

    def _readable_entry_points(self) -> Iterator[importlib.metadata.EntryPoint]:
        seen: set[str] = set()
        for dist in importlib.metadata.distributions():
            try:
                entries = [entry for entry in dist.entry_points if entry.group == self.group]
            except Exception:  # noqa: BLE001, S112 - see above; what cannot be read cannot be offered
                continue
            # As importlib.metadata has it: of two of one name the first on the path counts.
            name = _distribution(entries[0])[0].lower().replace("_", "-") if entries else ""
            if name not in seen:
                seen |= {name} - {""}
                yield from entries


def where_of(name: str, candidate: Candidate | None) -> str:
    """A plugin for messages: its name, and the distribution that brought it."""
    if candidate is None or not candidate.distribution:
        return repr(name)
    return f"{name!r} of {candidate.distribution} {candidate.version}".rstrip()


def brief(error: BaseException) -> str:
    """An error on one line."""
    return f"{type(error).__name__}: {error}"[:500]


def _distribution(entry: importlib.metadata.EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution that an entry point comes from; "" for what it does not say."""
    try:
        return (entry.dist.metadata["Name"] or "", entry.dist.version or "") if entry.dist is not None else ("", "")
    except Exception:  # noqa: BLE001 - metadata that are missing or damaged; the entry point may work all the same
        return "", ""
