"""A chart of plain characters: a bar for each value, or for some of them together."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"
PLAIN = " .:#"
"""For where blocks cannot be shown."""
WIDEST_BAR = 3


def binned(values: Sequence[int], columns: int) -> tuple[list[int], int]:
    """*values* in no more than *columns* bars, and how many of them each bar is the sum of."""
    each = -(-len(values) // max(columns, 1)) or 1
    return [sum(values[at : at + each]) for at in range(0, len(values), each)], each


def chart(
    values: Sequence[int], most: int, columns: int, rows: int, *, marks: str = BLOCKS
) -> list[str]:
    """Lines, *rows* of them, no wider than *columns*: bars from 0 to *most*, and cut off there.

    There may be no more values than columns.  What is not 0 shows.  *marks* are the characters of a
    cell that is empty, fuller and fuller, and full.
    """
    full, most = len(marks) - 1, max(most, 1)
    bar = max(1, min(WIDEST_BAR, columns // max(len(values), 1)))
    heights = [max(value * rows * full // most, 1) if value > 0 else 0 for value in values]
    lines = []
    for row in reversed(range(rows)):
        cells = (marks[min(max(height - row * full, 0), full)] * bar for height in heights)
        lines.append("".join(cells).rstrip())
    return lines
