"""Types that msgspec checks values against, made ready before threads use them."""

from __future__ import annotations

from typing import TypeVar

import msgspec

T = TypeVar("T", bound=type[msgspec.Struct])


def ready(kind: T) -> T:
    """A `Struct` class whose fields are resolved; a class decorator.

    msgspec resolves the fields of a class when it is first used, and has them half done meanwhile: another thread that
    uses the class just then ends the process with a segmentation fault (seen with msgspec 0.22).
    """
    msgspec.json.Decoder(kind)
    return kind
