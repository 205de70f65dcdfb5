"""Types of the fields of events, as msgspec checks them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

NUMBERS = 1 << 62
"""Numbers of events and files are smaller, so that one more fits into 64 bits as well."""

Count = Annotated[int, Meta(ge=0, lt=NUMBERS)]
Number = Annotated[int, Meta(ge=1, lt=NUMBERS)]
Positive = Annotated[float, Meta(gt=0)]
