"""`wandb.config` and `wandb.summary`: what a run shows of itself, changed by item, by attribute or by `update`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracking_core.runs.run import Run


class _Facts(Mapping[str, Any]):
    """A mapping whose changes are recorded.

    Args:
        read: Gives what it holds.
        record: Records a change.
    """

    _read: Callable[[], Mapping[str, Any]]
    _record: Callable[[Any], None]

    def __init__(self, read: Callable[[], Mapping[str, Any]], record: Callable[[Any], None]) -> None:
        object.__setattr__(self, "_read", read)
        object.__setattr__(self, "_record", record)

    def __getitem__(self, key: str) -> Any:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __getattr__(self, name: str) -> Any:
        try:
            return self._read()[name]
        except KeyError:
            raise AttributeError(f"wandb.{type(self).__name__.lower()} has no {name!r}", name=name) from None

    def __setitem__(self, key: str, value: Any) -> None:
        self._record({key: value})

    def __setattr__(self, name: str, value: Any) -> None:
        self._record({name: value})

    def as_dict(self) -> dict[str, Any]:
        """A copy as a dict."""
        return dict(self._read())

    def __repr__(self) -> str:
        return repr(self.as_dict())


class Config(_Facts):
    """The configuration of a run, over `Run.config` and `Run.log_config`."""

    def __init__(self, run: Run) -> None:
        super().__init__(lambda: run.config, run.log_config)

    def update(self, d: Any, allow_val_change: bool | None = None) -> None:
        """Extend or change it.

        Args:
            d: A mapping, an argparse namespace, or whatever else `Run.log_config` takes; nested mappings are merged.
            allow_val_change: Not needed: every change is recorded, and the last one holds.
        """
        del allow_val_change
        self._record(d)

    def setdefaults(self, d: Mapping[str, Any]) -> None:
        """Add what is not there yet."""
        there = self._read()
        self._record({key: value for key, value in d.items() if key not in there})


class Summary(_Facts):
    """What describes the run as a whole: the last value of each scalar, and what was set here."""

    def __init__(self, run: Run) -> None:
        def read() -> Mapping[str, Any]:
            # What is still on its way is waited for.
            run.flush(local=True)
            return run.summary

        super().__init__(read, run.log_summary)

    def update(self, d: Mapping[str, Any]) -> None:
        """Set several values."""
        self._record(d)
