"""Verbs that are imported when somebody asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module

import click


class LazyVerbs(MutableMapping[str, click.Command]):
    """The commands of a group; it knows their names without importing them.

    Args:
        modules: Name of the verb to the module that holds it, as `verb`.
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = dict(modules)
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            self._loaded[name] = import_module(self._modules[name]).verb
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._loaded.pop(name, None)
        self._modules.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._loaded or name in self._modules

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self._modules, *self._loaded])

    def __len__(self) -> int:
        return len(set(self._modules) | set(self._loaded))
