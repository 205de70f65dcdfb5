"""HTML: a page or a part of one, which is never shown outside a sandbox."""

from __future__ import annotations

import html
from os import PathLike
from pathlib import Path
from typing import Any

from tracking_core.errors import InvalidValueError
from tracking_core.values.arrays import describe

_SHOWN_HEIGHT = 320


class Html(str):
    """HTML. It is shown in a sandbox: without scripts, without forms, and without access to the page around it.

    Example:
        >>> Html("<b>three</b> of ten")
        Html('<b>three</b> of ten')
    """

    __slots__ = ()

    @classmethod
    def from_file(cls, path: str | PathLike[str]) -> Html:
        """Read a file as UTF-8; a byte order mark is removed.

        Raises:
            InvalidValueError: There is no such file, or it is not UTF-8.
        """
        try:
            return cls(Path(path).read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise InvalidValueError(f"the HTML file {str(path)!r:.200} cannot be read: {error}") from error

    def __repr__(self) -> str:
        return f"Html({str.__repr__(self)})"

    def _repr_html_(self) -> str:
        # An empty sandbox: the page has an origin of its own, and runs no scripts.
        return (
            f'<iframe sandbox="" srcdoc="{html.escape(self)}" width="100%" height="{_SHOWN_HEIGHT}" '
            'style="border:0"></iframe>'
        )


def to_html(value: Any) -> Html:
    """An `Html` as it is; a str is HTML itself, and a path the file that has it.

    Raises:
        InvalidValueError: It is something else, or there is no such file.
    """
    if isinstance(value, Html):
        return value
    if isinstance(value, str):
        return Html(value)
    if isinstance(value, PathLike):
        return Html.from_file(value)  # pyright: ignore[reportUnknownArgumentType] - a path is a path
    raise InvalidValueError(f"log_html: expected a str of HTML, the path of a file or an Html, got {describe(value)}")
