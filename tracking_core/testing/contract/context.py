"""The argument of a check: the adapter, a fresh directory, and methods to open, log, read back and compare."""

from __future__ import annotations

import contextlib
import itertools
import uuid
import weakref
from collections.abc import Generator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from tracking_core.backends.hooks import AdapterInfo, RunInfo
from tracking_core.protocol import CORE_CAPABILITIES, OPTIONAL_CAPABILITIES
from tracking_core.testing.contract.outcomes import ContractFailure, ContractSkip

if TYPE_CHECKING:
    from tracking_core.backends.plugins import Adapter
    from tracking_core.testing.contract.harness import (
        AdapterHarness,
        Stored,
        StoredArtifact,
        StoredHistogram,
        StoredImage,
        StoredScalar,
        StoredValue,
    )

T = TypeVar("T")

#: Methods are looked up on an opened tracker when an adapter declares no capabilities: once for each harness.
_FOUND: weakref.WeakKeyDictionary[AdapterHarness, frozenset[str]] = weakref.WeakKeyDictionary()


class Context:
    """The surroundings of one check.

    Args:
        harness: The harness of the adapter.
        directory: A directory of its own, empty.
    """

    def __init__(self, harness: AdapterHarness, directory: Path) -> None:
        self.harness = harness
        self.directory = directory
        self._numbers = itertools.count()

    # -- the adapter -------------------------------------------------------------------------------------------------

    @cached_property
    def adapter(self) -> Adapter:
        """The loaded adapter."""
        return self.harness.adapter()

    @property
    def info(self) -> AdapterInfo:
        """What the adapter declares about itself."""
        return self.adapter.info

    def supports(self, capability: str) -> bool:
        """Whether the adapter declares a capability; if it declares none at all, whether it has the method."""
        declared = self.info.capabilities
        if declared is not None:
            return capability in declared
        if self.harness not in _FOUND:
            with self.tracker(self.new_run()) as tracker:
                optional = {
                    name
                    for name, (_, method) in OPTIONAL_CAPABILITIES.items()
                    if callable(getattr(tracker, method, None))
                }
            _FOUND[self.harness] = frozenset({*CORE_CAPABILITIES, "resume", *optional})
        return capability in _FOUND[self.harness]

    # -- logging -----------------------------------------------------------------------------------------------------

    def new_run(self, **details: Any) -> RunInfo:
        """A new run; `details` are further arguments of `RunInfo`."""
        identity = details.pop("id", None) or f"contract-{uuid.uuid4().hex[:10]}"
        place = self.directory / "runs" / identity
        place.mkdir(parents=True, exist_ok=True)
        whole: dict[str, Any] = {"id": identity, "name": f"contract {next(self._numbers)}", "dir": place, **details}
        return RunInfo(**whole)

    def open(self, run: RunInfo) -> Any:
        """Open a tracker for a run. The caller finishes it."""
        return self.harness.open(self.directory, run)

    @contextlib.contextmanager
    def tracker(self, run: RunInfo) -> Generator[Any]:
        """Open a tracker for a run, and finish it."""
        tracker = self.open(run)
        try:
            yield tracker
        except BaseException:
            with contextlib.suppress(Exception):
                tracker.finish("failed")
            raise
        tracker.finish()

    # -- reading back ------------------------------------------------------------------------------------------------

    def read(self, run: RunInfo) -> Stored:
        """Everything the backend holds of a run."""
        return self.harness.read(self.directory, run)

    def scalars(self, run: RunInfo) -> list[StoredScalar]:
        """The scalars the backend holds of a run."""
        return self._have("scalars", self.read(run).scalars)

    def images(self, run: RunInfo) -> list[StoredImage]:
        """The images the backend holds of a run."""
        return self._have("images", self.read(run).images)

    def histograms(self, run: RunInfo) -> list[StoredHistogram]:
        """The histograms the backend holds of a run."""
        return self._have("histograms", self.read(run).histograms)

    def artifacts(self, run: RunInfo) -> list[StoredArtifact]:
        """The artifacts the backend holds of a run."""
        return self._have("artifacts", self.read(run).artifacts)

    def values(self, run: RunInfo, kind: str) -> list[StoredValue]:
        """The tables, texts, audio, videos, figures or values of further kinds that the backend holds of a run."""
        return self._have(kind, self.read(run).of(kind))

    def facts(self, run: RunInfo, kind: str) -> Any:
        """The config, summary or alerts the backend holds of a run."""
        return self._have(kind, getattr(self.read(run), kind))

    def _have(self, kind: str, stored: T | None) -> T:
        if stored is None:
            self.fail(
                f"{type(self.harness).__name__}.read() returned None for {kind}, so the check cannot see them; "
                f"read them back, or remove the capability from AdapterInfo.capabilities"
            )
        return stored

    # -- judging -----------------------------------------------------------------------------------------------------

    def fail(self, message: str) -> NoReturn:
        """The adapter does not pass."""
        raise ContractFailure(message)

    def require(self, condition: object, message: str) -> None:
        """Fail with a message if a condition is false."""
        if not condition:
            self.fail(message)

    def skip(self, reason: str) -> NoReturn:
        """The check does not apply."""
        raise ContractSkip(reason)

    def raises(self, expected: type[Exception], what: str, function: Any, *args: Any, **keywords: Any) -> Exception:
        """Call a function that must raise an error of a kind; return the error."""
        try:
            function(*args, **keywords)
        except expected as error:
            return error
        except BaseException as error:
            found = f"{type(error).__name__}: {error}"
            raise ContractFailure(f"{what} should raise {expected.__name__}, but raised {found}") from error
        raise ContractFailure(f"{what} should raise {expected.__name__}, but raised nothing")
