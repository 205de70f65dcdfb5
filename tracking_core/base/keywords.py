"""Arguments that a function does not have, with the name that was meant: Python itself names only the wrong one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tracking_core.base.text import did_you_mean

P = ParamSpec("P")
R = TypeVar("R")


def names_nearest(function: Callable[P, R]) -> Callable[P, R]:
    """Give a function an error for unknown keywords that names the nearest it has.

    Args:
        function: One without `**keywords`.

    Example:
        >>> @names_nearest
        ... def start(config=None): ...
        >>> start(confg=1)
        Traceback (most recent call last):
        TypeError: start() got an unexpected keyword argument 'confg': did you mean 'config'?
    """
    known = frozenset(inspect.signature(function).parameters)

    @functools.wraps(function)
    def called(*args: P.args, **keywords: P.kwargs) -> R:
        for name in keywords.keys() - known:
            raise TypeError(
                f"{function.__name__}() got an unexpected keyword argument {name!r}"
                f"{did_you_mean(name, known) or ': it has ' + ', '.join(inspect.signature(function).parameters)}"
            )
        return function(*args, **keywords)

    return called
