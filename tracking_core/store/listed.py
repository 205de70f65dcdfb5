"""Lists of runs and of what they logged, which show themselves in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from tracking_core.store.records import RunRecord

_T = TypeVar("_T")
SHOWN_STEPS = 3
"""Of images and other media, the last ones."""
SHOWN_AT_A_STEP = 8


class RunList(list["RunRecord"]):
    """Runs, as `Store.runs` returns them: a list, and a table in a notebook."""

    def _repr_html_(self) -> str:
        from tracking_core.store.pages import runs_html

        return runs_html(self)


class Logged(list[tuple[int, _T]]):
    """(step, value) pairs, as `RunRecord.images` and its like return them: a list, and the last of them in a notebook.

    Args:
        name: What they were logged under.
        pairs: The pairs, in the order in which they were logged.
    """

    def __init__(self, name: str, pairs: Sequence[tuple[int, _T]]) -> None:
        super().__init__(pairs)
        self._name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def _repr_html_(self) -> str:
        from tracking_core.values.notebook import figures_html

        shown = [
            (f"{self._name}, step {step}", _pages(value))
            # More would make the notebook heavy.
            for step, value in self[-SHOWN_STEPS:]
        ]
        more = f"the last {SHOWN_STEPS} of {len(self)}" if len(self) > SHOWN_STEPS else ""
        return figures_html(shown, more)


def _pages(value: Any) -> list[str]:
    """How a value shows itself, or the first of several."""
    values = cast("list[Any]", value)[:SHOWN_AT_A_STEP] if isinstance(value, list) else [value]
    return [page for one in values if (page := _page(one))]


def _page(value: Any) -> str | None:
    for method in ("_repr_html_", "_repr_svg_"):
        if (show := getattr(value, method, None)) is not None and (page := show()):
            return page
    return _picture(value)


def _picture(value: Any) -> str | None:
    from tracking_core.values.notebook import facts_html, media_html

    if (show := getattr(value, "_repr_png_", None)) is not None:
        return media_html(show(), "image/png")
    # Markdown, and figures that need a library of the page.
    return facts_html(str(value)[:2000])
