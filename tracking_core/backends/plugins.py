"""Adapters of backends: what each says of itself, and what it is asked. First-party ones come through the same door."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tracking_core.backends.hooks import GROUP, LEVELS, AdapterInfo, AdapterSpec, Finding, ForeignRun, RunInfo
from tracking_core.backends.targets import COMMON_OPTIONS, Target, redact_targets, refuse_control_characters
from tracking_core.base.redaction import redact_text
from tracking_core.base.registry import Candidate, Registry, brief, where_of
from tracking_core.base.text import did_you_mean
from tracking_core.errors import (
    AdapterVersionError,
    BrokenAdapterError,
    MissingDependencyError,
    SettingsError,
)
from tracking_core.protocol import API_VERSION, CORE_CAPABILITIES, OPTIONAL_CAPABILITIES

if TYPE_CHECKING:
    from tracking_core.protocol import Tracker

#: Adapters that this distribution brings, for the message when the entry point is not even there.
FIRST_PARTY = ("local", "none", "tensorboard", "wandb")
_ALWAYS_THERE = ("local", "none")
#: A word that is a target by itself, quotation marks around it included.
_TARGET = re.compile(r"""["'(\[]*(?P<name>[A-Za-z][A-Za-z0-9_.-]*)(?:["')\]]*|(?P<rest>[:?].*))""")
_CAPABILITIES = frozenset(CORE_CAPABILITIES) | frozenset(OPTIONAL_CAPABILITIES) | {"resume"}


class Adapter:
    """An adapter whose module is loaded and whose hooks are checked; its backend is not imported yet."""

    def __init__(self, plugin: Any, name: str, candidate: Candidate | None = None) -> None:
        self.candidate = candidate
        where = where_of(name, candidate)
        self._manager = ADAPTERS.manager(plugin, name, candidate, ("tracking_adapter", "open_tracker"))
        self.info = self._checked_info(name, where)

    @property
    def name(self) -> str:
        """Name of the adapter."""
        return self.info.name

    def _checked_info(self, name: str, where: str) -> AdapterInfo:
        try:
            info = self._manager.hook.tracking_adapter()
        except (Exception, SystemExit) as error:
            raise BrokenAdapterError(f"the adapter {where} failed to describe itself: {brief(error)}") from error
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
        if info.options is not None and not isinstance(info.options, Mapping):
            raise BrokenAdapterError(
                f"the adapter {where}: AdapterInfo.options must map each option to a line of help, "
                f"got {type(info.options).__name__}"
            )
        if isinstance(info.requires, str) or not all(isinstance(module, str) for module in info.requires):
            raise BrokenAdapterError(
                f"the adapter {where}: AdapterInfo.requires must be a tuple of module names, got {info.requires!r:.80}"
            )
        unknown = sorted((info.capabilities or frozenset()) - _CAPABILITIES)
        if unknown:
            raise BrokenAdapterError(
                f"the adapter {where} names the unknown capability {unknown[0]!r}"
                + did_you_mean(unknown[0], _CAPABILITIES)
                + f"; the capabilities are {', '.join(sorted(_CAPABILITIES))}"
            )
        return info

    def missing(self) -> list[str]:
        """The modules it needs that are not installed; found out without importing any."""
        return [module for module in self.info.requires if not _is_installed(module)]

    def check_target(self, target: Target, *, origin: str | None = None) -> None:
        """Check a target as far as it can be told without the backend, and that what the adapter needs is installed.

        Args:
            target: The target.
            origin: Where it was written, for the error message; None takes what the target says of itself.

        Raises:
            SettingsError: An option is unknown, or the adapter refuses the target.
            BrokenAdapterError: The adapter failed to check it.
            MissingDependencyError: A package is missing.
        """
        refuse_joined(target, origin=origin)
        self.check_options(target, origin=origin)
        # Before the adapter looks: without its packages nothing else that is wrong matters.
        missing = self.missing()
        if missing:
            raise self.dependency_error(missing)
        try:
            self._manager.hook.check_target(target=target)
        except SettingsError as error:
            elsewhere = _other_origins(target, str(error)) if type(error) is SettingsError else ""
            text = redact_text(f"{error} ({elsewhere})" if elsewhere else str(error))
            if text == str(error):
                raise
            # What stands where a value should may be a key; without the original, which has it.
            raise type(error)(text) from None
        except ValueError as error:
            source = origin or target.origin or "TRACKING_BACKEND"
            elsewhere = _other_origins(target, str(error))
            source += f" ({elsewhere})" if elsewhere else ""
            # Not from the error: a traceback would say the same twice.
            raise SettingsError(f"{source}: {redact_targets(str(target))!r}: {redact_text(str(error))}") from None
        except (Exception, SystemExit) as error:
            raise BrokenAdapterError(f"the adapter {self.name!r} failed to check a target: {brief(error)}") from error

    def check_options(self, target: Target, *, origin: str | None = None) -> None:
        """Check the options of a target alone.

        Raises:
            SettingsError: An option is unknown.
        """
        known = self.info.options
        if known is not None:
            for option in target.options:
                if option not in known:
                    every = {**known, **COMMON_OPTIONS}
                    source = target.origins.get(option) or origin or target.origin or "TRACKING_BACKEND"
                    raise SettingsError(
                        f"{source}: the backend {self.name!r} has no option {option!r}"
                        f"{did_you_mean(option, every)}; its options are {', '.join(sorted(every))}"
                    )

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

    @property
    def names_places(self) -> bool:
        """Whether it says of a target which place it leads to."""
        return bool(self._manager.hook.target_place.get_hookimpls())

    def place(self, target: Target, run: RunInfo) -> str:
        """Which place at the backend a target names: the target in canonical form, where the adapter does not say."""
        try:
            place = self._manager.hook.target_place(target=target, run=run)
        except (Exception, SystemExit) as error:
            raise BrokenAdapterError(
                f"the adapter {self.name!r} failed to name the place of a run: {brief(error)}"
            ) from error
        if place is not None and not (isinstance(place, str) and place):
            raise BrokenAdapterError(f"the adapter {self.name!r} named {place!r:.80} as a place, which is not text")
        return place or str(target.bare)

    def diagnose(self, target: Target) -> list[Finding]:
        """What the adapter finds about a target; an adapter without the hook finds nothing."""
        try:
            found: list[Any] = list(self._manager.hook.diagnose(target=target) or ())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a diagnosis that fails is itself a finding
            return [Finding("error", f"the diagnosis of {self.name!r} failed: {brief(error)}")]
        for finding in found:
            if not isinstance(finding, Finding) or finding.level not in LEVELS:
                message = (
                    f"the diagnosis of {self.name!r} returned {finding!r:.80}, which is not a tracking_core.Finding"
                )
                return [Finding("error", message, f"its level must be one of {', '.join(LEVELS)}")]
        return found

    def harness(self) -> Any:
        """The contract harness the adapter brings, or None."""
        return self._manager.hook.tracking_harness()

    def foreign_runs(self, path: Path) -> Iterable[ForeignRun] | None:
        """The runs that the backend has stored below a path; None when there are none, or the adapter reads none.

        Raises:
            MissingDependencyError: There are some, and a package that reads them is missing.
            BrokenAdapterError: The adapter failed.
        """
        try:
            found: Iterable[ForeignRun] | None = self._manager.hook.tracking_import(path=path)
        except (Exception, SystemExit) as error:
            raise BrokenAdapterError(f"the adapter {self.name!r} failed to look into {path}: {brief(error)}") from error
        if found is not None and (missing := self.missing()):
            raise self.dependency_error(missing)
        return found

    def supports(self, tracker: Tracker, capability: str) -> bool:
        """Whether a capability is declared and there is a method for it."""
        declared = self.info.capabilities
        if declared is not None and capability not in declared:
            return False
        if capability in OPTIONAL_CAPABILITIES:
            return callable(getattr(tracker, OPTIONAL_CAPABILITIES[capability][1], None))
        return True


def refuse_joined(target: Target, *, origin: str | None = None) -> None:
    """Refuse a target that has another one behind anything but a comma: nothing would ever be delivered to that.

    Raises:
        SettingsError: It has; or it holds a control character.
    """
    source = origin or target.origin or "TRACKING_BACKEND"
    refuse_control_characters(target, origin=source)
    word, sign = next(_joined(target), ("", ""))
    if word:
        before = "blank" if sign == " " else repr(sign)
        raise SettingsError(
            f"{source}: {redact_targets(str(target))!r} has {redact_targets(word)!r} after a {before}, and that is a "
            f"backend: targets are joined by commas; if it belongs to {target.name!r}, write the {before} as "
            f"{quote(sign)}"
        )


def _joined(target: Target) -> Iterator[tuple[str, str]]:
    """Words of a target that are called like a backend, and what each stands behind."""
    last = len(target.behind_blanks) - 1
    for number, word in enumerate(target.behind_blanks):
        found = _TARGET.fullmatch(word)
        if found is not None and (found["rest"] or number == last):
            if _is_backend(found["name"]):
                yield word, " "
        # Further words may be a name as people give them. Who leaves the store out loses nothing.
        elif (name := re.split(r"[+|&]", word)[0]) not in _ALWAYS_THERE and _is_backend(name):
            yield name, " "
    for word in target.behind_signs:
        found = _TARGET.fullmatch(word[1:])
        if found is None or (found["name"].lower() in _ALWAYS_THERE and not found["rest"]):
            continue
        if _is_backend(found["name"]):
            yield word[1:], word[0]


def _is_backend(name: str) -> bool:
    return name.lower() in FIRST_PARTY or name.lower() in candidates()


def _other_origins(target: Target, said: str) -> str:
    """Where options come from that were not written in the target itself, as far as a message does not say so."""
    named = {option: place for option, place in target.origins.items() if option in said} or target.origins
    return ", ".join(f"{option} is from {place}" for option, place in sorted(named.items()) if place not in said)


def _is_installed(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return importlib.util.find_spec(module) is not None
    except Exception:  # noqa: BLE001 - the parent of a dotted name is imported, and may do anything
        return False


ADAPTERS = Registry(GROUP, AdapterSpec, Adapter, kind="adapter", asked="backend", own=FIRST_PARTY)
"""The adapters that are installed."""
candidates, load, conflict, forget_adapters = ADAPTERS.candidates, ADAPTERS.load, ADAPTERS.conflict, ADAPTERS.forget


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
    return ADAPTERS.find(name, origin=origin)
