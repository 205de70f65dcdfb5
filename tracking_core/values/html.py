"""HTML: a page or a part of one, which is never shown outside a sandbox."""

from __future__ import annotations

from os import PathLike
from typing import Any

from tracking_core.base.regular import open_regular
from tracking_core.errors import InvalidValueError
from tracking_core.values.arrays import describe


class Html(str):
    """HTML. It is shown in a sandbox: without scripts, without forms, and without access to the page around it.

    Example:
        >>> Html("<b>three</b> of ten")
        Html('<b>three</b> of ten')
    """

    __slots__ = ()

    @classmethod
    def from_file(cls, path: str | PathLike[str]) -> Html:
        """Read a file as UTF-8; a byte order mark is removed, and line ends stay as they are.

        Raises:
            InvalidValueError: There is no such file, it is no regular one, or it is not UTF-8.
        """
        try:
            with open_regular(path) as file:
                return cls(file.read().decode("utf-8-sig"))
        except (OSError, ValueError) as error:
            raise InvalidValueError(f"the HTML file {str(path)!r:.200} cannot be read: {error}") from error

    def __repr__(self) -> str:
        return f"Html({str.__repr__(self)})"

    def _repr_html_(self) -> str | None:
        from tracking_core.values.notebook import page_html

        return page_html(self)


def to_html(value: Any) -> Html:
    """An `Html` as it is; a str, of a subclass too, is HTML itself, and a path the file that has it.

    Raises:
        InvalidValueError: It is something else, or there is no such file.
    """
    if type(value) is Html:
        return value
    if isinstance(value, str):
        # A subclass may say of itself what it likes, and be made of more than its letters.
        return Html(str.__str__(value))
    if isinstance(value, PathLike):
        return Html.from_file(value)  # pyright: ignore[reportUnknownArgumentType] - a path is a path
    raise InvalidValueError(f"log_html: expected a str of HTML, the path of a file or an Html, got {describe(value)}")
