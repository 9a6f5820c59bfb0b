"""A chart as SVG: for each step, how many times as long as ibtfs the others take."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from benchmark.results import Results, Row

COLOURS = {"restic": "#3b75af", "borg": "#519d3e", "bup": "#c9a227", "rdiff-backup": "#8d69b8",
           "native": "#9aa0a6"}  # fmt: skip
BAR, GAP, LEFT, TOP, HEIGHT = 9, 14, 46, 52, 190
FONT = 'font-family="sans-serif" font-size="10" fill="#57606a"'


def chart(results: Results) -> str:
    """Return the document. Steps that no other tool did are left out."""
    groups = [(name, step, rows) for name, step in results.steps()
              if (rows := _compared(results.rows(name, step)))]  # fmt: skip
    tools = [
        tool for tool in COLOURS if any(row.tool == tool for *_, rows in groups for row in rows)
    ]
    widths = [max(len(rows) * BAR, 7 * len(step), 30) for _, step, rows in groups]
    width = LEFT + sum(widths) + GAP * (len(groups) + 1)
    ratios = [ratio for *_, rows in groups for row in rows if (ratio := _ratio(rows[0], row))]
    scale = _Scale(min([0.5, *ratios]), max([10.0, *ratios]))
    lines = [*_frame(max(width, 560), scale, tools)]
    left = LEFT + GAP
    for (name, step, rows), room in zip(groups, widths, strict=True):
        lines += _group(left, room, f"{name}", step, rows, scale)
        left += room + GAP
    return "\n".join([*lines, "</svg>", ""])


class _Scale:
    """Ratios to heights, by their logarithm, from the powers of two around *low* and *high*."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = math.floor(math.log2(low)), math.ceil(math.log2(high))

    def y(self, ratio: float) -> float:
        part = (math.log2(ratio) - self.low) / (self.high - self.low)
        return TOP + HEIGHT * (1 - part)

    def marks(self) -> Iterator[float]:
        yield from (ratio for ratio in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
                    if self.low <= math.log2(ratio) <= self.high)  # fmt: skip


def _compared(rows: Sequence[Row]) -> list[Row]:
    """Return the row of ibtfs and, if there are any, those of others that did it right."""
    right = [row for row in rows if not row.wrong and row.seconds > 0]
    return right if len(right) > 1 and right[0].tool == "ibtfs" else []


def _ratio(own: Row, other: Row) -> float:
    return other.seconds / own.seconds


def _frame(width: int, scale: _Scale, tools: Sequence[str]) -> Iterator[str]:
    height = TOP + HEIGHT + 40
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
           f'viewBox="0 0 {width} {height}">')  # fmt: skip
    yield f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    yield (f'<text x="{GAP}" y="18" {FONT} font-weight="bold">Times as long as ibtfs '
           "(logarithmic; shorter bars are faster, the line at 1 is ibtfs)</text>")  # fmt: skip
    left = GAP
    for tool in tools:
        yield f'<rect x="{left}" y="27" width="10" height="10" fill="{COLOURS[tool]}"/>'
        yield f'<text x="{left + 14}" y="36" {FONT}>{escape(tool)}</text>'
        left += 34 + 6 * len(tool)
    for mark in scale.marks():
        y, colour = scale.y(mark), "#24292f" if mark == 1 else "#d8dee4"
        yield f'<line x1="{LEFT}" x2="{width}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 3:.1f}" text-anchor="end" {FONT}>{mark:g}</text>'


def _group(
    left: int, room: int, name: str, step: str, rows: Sequence[Row], scale: _Scale
) -> Iterator[str]:
    bars = [row for row in rows[1:] if row.tool in COLOURS]
    x, base = left + (room - len(bars) * BAR) / 2, scale.y(1)
    for row in bars:
        ratio = _ratio(rows[0], row)
        y = scale.y(ratio)
        yield (f'<rect x="{x:.1f}" y="{min(y, base):.1f}" width="{BAR - 1}" '
               f'height="{max(abs(base - y), 0.5):.1f}" fill="{COLOURS[row.tool]}">'
               f"<title>{escape(row.tool)}: {row.seconds:.2f} s, {ratio:.2g} times</title>"
               "</rect>")  # fmt: skip
        x += BAR
    middle, bottom = left + room / 2, TOP + HEIGHT
    for offset, text in ((16, name), (29, step)):
        yield (f'<text x="{middle}" y="{bottom + offset}" text-anchor="middle" {FONT}>'
               f"{escape(text)}</text>")  # fmt: skip
