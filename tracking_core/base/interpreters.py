"""Which interpreter of the process this is."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any


def is_subinterpreter() -> bool:
    """Whether this is another than the main interpreter of the process, as below mod_wsgi."""
    # The name is that of Python 3.13, then that of the versions before; where there is neither, nobody can tell.
    for name in ("_interpreters", "_xxsubinterpreters"):
        with suppress(ImportError):
            module: Any = import_module(name)
            return bool(module.get_current() != module.get_main())
    return False
