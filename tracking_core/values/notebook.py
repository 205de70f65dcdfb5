"""How values show themselves in a notebook: small SVG and HTML, without a library and without anything from elsewhere.

Colours are in the middle between light and dark, so that both themes of a notebook can show them.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tracking_core.base.text import counted

WIDTH, HEIGHT, MARGIN = 480, 160, 20
MOST_BARS = 480
SHOWN_ROWS = 20
SHOWN_COLUMNS = 50
SHOWN_CELL = 200
LARGEST = 20_000_000
"""In bytes: what is shown is kept in the notebook."""
SMALLER = 2048
"""Pixels a side of an image that was larger."""
PAGE_HEIGHT = 320
"""Pixels of a page, which scrolls."""
_INK = "#808080"
_FILL = "#4c78a8"


def histogram_svg(counts: np.ndarray[Any, Any], edges: np.ndarray[Any, Any], notes: Sequence[str]) -> str:
    """A histogram as bars over its edges.

    Args:
        counts: `[B]` numbers.
        edges: `[B + 1]` rising numbers.
        notes: Short texts that stand below.
    """
    together = -(-len(counts) // MOST_BARS)
    if together > 1:
        # More than there are pixels for: neighbours share a bar.
        counts = np.add.reduceat(counts, np.arange(0, len(counts), together))
        edges = np.append(edges[:-1:together], edges[-1])
    places = _between(edges, float(edges[0]), float(edges[-1]))
    top = float(counts.max()) or 1.0
    bars = "".join(
        f'<rect x="{MARGIN + left * _inner_width():.2f}" y="{_y(part):.2f}" '
        f'width="{(right - left) * _inner_width():.2f}" height="{_y(0.0) - _y(part):.2f}"/>'
        for left, right, part in zip(places[:-1], places[1:], (counts / top).tolist(), strict=True)
        if part > 0
    )
    parts = [f'<g fill="{_FILL}">{bars}</g>', _baseline(), *_ends(float(edges[0]), float(edges[-1]))]
    return _svg("histogram", [*parts, _text(WIDTH / 2, 12, ", ".join(notes), "middle")])


def table_html(columns: Sequence[str], rows: Sequence[Sequence[Any]], most: int = SHOWN_ROWS) -> str:
    """A table; the first rows and columns of a large one, and how many there are."""
    head = "".join(f"<th>{_escape(_cell(column))}</th>" for column in columns[:SHOWN_COLUMNS])
    body = "".join(
        f"<tr>{''.join(f'<td>{_escape(_cell(cell))}</td>' for cell in row[:SHOWN_COLUMNS])}</tr>" for row in rows[:most]
    )
    cut = [
        f"{shown} of {len(there)} {what}"
        for what, there, shown in (("rows", rows, most), ("columns", columns, SHOWN_COLUMNS))
        if len(there) > shown
    ]
    more = f"<caption>the first {' and '.join(cut)}</caption>" if cut else ""
    return f"<table>{more}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def facts_html(
    title: str,
    facts: Sequence[tuple[str, Any]] = (),
    *,
    columns: Sequence[str] = (),
    rows: Sequence[Sequence[Any]] = (),
    links: Sequence[str] = (),
    notes: Sequence[str] = (),
    most: int = SHOWN_ROWS,
) -> str:
    """What something is, in a few lines, and a table below.

    Args:
        title: Its name.
        facts: Further (name, value) pairs.
        columns: Headings of the table; () for no table.
        rows: Its rows.
        links: Addresses of pages. What is no address of one is shown as text.
        notes: Commands and the like, each on a line of its own.
        most: Rows of the table that are shown.
    """
    parts = [f"<div><b>{_escape(title)}</b></div>"]
    parts += [f"<div>{_escape(name)}: {_escape(_cell(value))}</div>" for name, value in facts]
    parts += [table_html(columns, rows, most)] if columns and rows else []
    for link in links:
        text = _escape(link)
        is_page = link.startswith(("https://", "http://"))
        parts.append(
            f'<div><a href="{text}" rel="noopener noreferrer">{text}</a></div>' if is_page else f"<div>{text}</div>"
        )
    parts += [f"<div><code>{_escape(note)}</code></div>" for note in notes]
    return f"<div>{''.join(parts)}</div>"


def figures_html(shown: Iterable[tuple[str, Sequence[str]]], more: str = "") -> str:
    """Pages below headings.

    Args:
        shown: (heading, HTML of what stands below it) pairs.
        more: What is said first, where these are not all.
    """
    parts = [f"<div>{_escape(more)}</div>"] if more else []
    parts += [f"<div><b>{_escape(heading)}</b></div>{''.join(pages)}" for heading, pages in shown]
    return f"<div>{''.join(parts)}</div>"


def media_html(content: bytes, mime: str, caption: str = "") -> str | None:
    """Sound, or a moving picture; None for what is too large to stand in a notebook."""
    if len(content) > LARGEST:
        return None
    kind = mime.partition("/")[0]
    source = f'src="data:{mime};base64,{base64.b64encode(content).decode("ascii")}"'
    if kind == "image":
        shown = f'<img {source} alt="{_escape(caption)}"/>'
    else:
        shown = f'<{kind} controls="controls" {source}></{kind}>'
    below = f"<figcaption>{_escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{shown}{below}</figure>"


def page_html(page: str) -> str | None:
    """A page in a sandbox: with an origin of its own, and no scripts. None for one that is too large for a notebook."""
    # Lone surrogates can be in no notebook.
    content = page.encode("utf-8", "replace")
    if len(content) > LARGEST:
        return None
    source = html.escape(content.decode())
    return f'<iframe sandbox="" srcdoc="{source}" width="100%" height="{PAGE_HEIGHT}" style="border:0"></iframe>'


def thinned(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Fewer pixels of an image that is too large to stand in a notebook.

    Args:
        pixels: `[H, W, C]`.
    """
    stride = -(-max(pixels.shape[:2]) // SMALLER)
    return np.ascontiguousarray(pixels[::stride, ::stride])


def series_html(
    name: str, axis: str, count: int, step: np.ndarray[Any, np.dtype[np.int64]], value: np.ndarray[Any, Any]
) -> str:
    """A curve, and the numbers one asks for first.

    Args:
        name: Name of the scalar.
        axis: The step axis.
        count: How many rows the series has.
        step: `[N]` rising steps of the rows that are drawn.
        value: `[N]` values; where one is not finite the curve is broken.
    """
    facts = [f"{counted(count, 'value')} over {axis}"]
    finite = value[np.isfinite(value)]
    if len(value):
        facts.append(f"last {value[-1]:.6g}")
    if len(finite):
        facts += [f"min {finite.min():.6g}", f"max {finite.max():.6g}"]
    drawing = _curve(step, value, finite) if len(finite) else ""
    return f"<div><div><b>{_escape(name)}</b> {_escape(', '.join(facts))}</div>{drawing}</div>"


def _curve(step: np.ndarray[Any, Any], value: np.ndarray[Any, Any], finite: np.ndarray[Any, Any]) -> str:
    x = MARGIN + _between(step.astype(np.float64), float(step[0]), float(step[-1])) * _inner_width()
    part = _between(value, float(finite.min()), float(finite.max()))
    lines: list[list[str]] = [[]]
    for left, height in zip(x.tolist(), part.tolist(), strict=True):
        if math.isfinite(height):
            lines[-1].append(f"{left:.2f},{_y(height):.2f}")
        elif lines[-1]:
            lines.append([])
    drawn = "".join(
        f'<polyline fill="none" stroke="{_FILL}" stroke-width="1.5" stroke-linecap="round" '
        # A line of one point is drawn as a dot.
        f'points="{" ".join(line if len(line) > 1 else line * 2)}"/>'
        for line in lines
        if line
    )
    return _svg("curve", [drawn, _baseline(), *_ends(int(step[0]), int(step[-1]))])


def _between(values: np.ndarray[Any, Any], low: float, high: float) -> np.ndarray[Any, Any]:
    """Where finite values are between two others, from 0 to 1; in the middle when these are equal."""
    if low == high:
        return np.where(np.isfinite(values), 0.5, np.nan)
    # The difference of the largest floats must not overflow.
    scale = 1.0 if math.isfinite(high - low) else 0.25
    with np.errstate(invalid="ignore"):
        return (values * scale - low * scale) / (high * scale - low * scale)


def _svg(title: str, parts: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" font-family="sans-serif" font-size="11"><title>{title}</title>{"".join(parts)}</svg>'
    )


def _baseline() -> str:
    return f'<path d="M{MARGIN} {_y(0.0)}H{WIDTH - MARGIN}" stroke="{_INK}"/>'


def _ends(left: float, right: float) -> list[str]:
    shown = [format(end, "d" if isinstance(end, int) else ".6g") for end in (left, right)]
    return [
        _text(MARGIN, HEIGHT - 5, shown[0], "start"),
        _text(WIDTH - MARGIN, HEIGHT - 5, shown[1], "end"),
    ]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{_INK}">{_escape(text)}</text>'


def _inner_width() -> int:
    return WIDTH - 2 * MARGIN


def _y(part: float) -> float:
    return HEIGHT - MARGIN - part * (HEIGHT - 2 * MARGIN)


def _cell(cell: Any) -> str:
    text = "" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else str(cell)
    return text if len(text) <= SHOWN_CELL else f"{text[: SHOWN_CELL - 1]}…"


def _escape(text: str) -> str:
    # Control characters and lone surrogates are in no XML.
    clean = "".join(
        letter if letter in "\t\n" or (letter >= " " and not "\ud800" <= letter <= "\udfff") else "�" for letter in text
    )
    return html.escape(clean.replace("\ufffe", "�").replace("\uffff", "�"))
