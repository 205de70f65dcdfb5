"""Public names that are loaded when they are first used: importing a package must cost nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def homes_of(homes: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Name → the module below the package that has it."""
    return {name: module for module, names in homes.items() for name in names}


def load_on_use(
    package: str,
    homes: Mapping[str, Sequence[str]],
    modules: Sequence[str] = (),
    elsewhere: Callable[[str], str] = lambda _: "",
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """What a package takes as its `__getattr__` and `__dir__`.

    Args:
        package: Its name.
        homes: Module below the package → the public names that it has.
        modules: Modules below the package that are public themselves.
        elsewhere: Says where a name is that the package has not; "" where nobody knows.
    """
    found = homes_of(homes)

    def get(name: str) -> Any:
        if name in found:
            value = getattr(import_module(f"{package}.{found[name]}"), name)
        elif name in modules:
            value = import_module(f"{package}.{name}")
        else:
            from tracking_core.base.text import did_you_mean

            hint = "" if name.startswith("_") else elsewhere(name) or did_you_mean(name, sys.modules[package].__all__)
            raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}", name=name)
        # The next time nobody asks.
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted(sys.modules[package].__all__)

    return get, names
