"""The configuration of a run, as the run shows it: read by name or by key, and changed by `log_config` alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, cast

from tracking_core.base.text import did_you_mean
from tracking_core.values.config import Later, merge, settled

HOW_TO_CHANGE = "the configuration of a run is changed with run.log_config({...}), which records the change"
"""What somebody is told who changes it in another way."""


class RunConfig(dict[str, Any]):
    """A configuration: `run.config.lr` and `run.config["lr"]` read, also what is nested: `run.config.model.width`.

    It is a dict that cannot be changed; `log_config` changes it. Copies of it are ordinary dicts. A key that is also
    the name of a method of dicts, such as "items", is read with `run.config["items"]`.

    Raises:
        AttributeError: There is no such key; or one is set, which `log_config` does.
        TypeError: A key is set or removed as that of a dict.

    Example:
        >>> from tracking_core import start_run
        >>> run = start_run("digits", backends="none", config={"lr": 0.1, "model": {"width": 64}})
        >>> run.config.lr, run.config["lr"], run.config.model.width
        (0.1, 0.1, 64)
        >>> run.finish().ok
        True
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            hint = did_you_mean(name, self) or (
                f"; there are {', '.join(list(self)[:20])}" if self else "; it is empty"
            )
            raise AttributeError(f"the configuration has no {name!r}{hint}") from None

    def __getitem__(self, key: str) -> Any:
        return _shown(super().__getitem__(key))

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or a default."""
        return _shown(super().get(key, default))

    # What stands for a value that a device still computes is never given out: whatever copies a dict comes by here.
    def __iter__(self) -> Iterator[str]:
        return super().__iter__()

    def items(self) -> Any:
        """The keys and their values."""
        return self.copy().items()

    def values(self) -> Any:
        """The values."""
        return self.copy().values()

    def __eq__(self, other: object) -> bool:
        return self.copy() == other

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __repr__(self) -> str:
        return repr(self.copy())

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(HOW_TO_CHANGE)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(HOW_TO_CHANGE)

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(HOW_TO_CHANGE)

    __setitem__ = __delitem__ = __ior__ = _refuse  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    update = setdefault = pop = popitem = clear = _refuse  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(key for key in self if key.isidentifier())]

    def copy(self) -> dict[str, Any]:
        """An ordinary dict."""
        return {key: settled(value) for key, value in super().items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.copy(),)


def change(config: RunConfig, new: Mapping[str, Any]) -> None:
    """Merge something new into a configuration, as `log_config` does."""
    merged = dict(dict.items(config))
    merge(merged, new)
    dict.update(config, merged)


def _shown(value: Any) -> Any:
    # What is nested stays an ordinary dict inside, so that encoders see nothing new.
    if type(value) is dict:
        return RunConfig(cast("dict[str, Any]", value))
    return settled(value) if type(value) in {Later, list} else value
