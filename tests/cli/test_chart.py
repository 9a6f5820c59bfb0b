"""Charts: as wide as they may be, and never wrong about what is more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ibtfs.cli.chart import BLOCKS, PLAIN, binned, chart

VALUES = st.lists(st.integers(0, 1 << 50), max_size=500)


@given(VALUES, st.integers(1, 120), st.integers(1, 8), st.sampled_from([BLOCKS, PLAIN]))
def test_any_values_fit(values: list[int], columns: int, rows: int, marks: str) -> None:
    bars, each = binned(values, columns)
    assert sum(bars) == sum(values)
    assert len(bars) == -(-len(values) // each) <= columns
    lines = chart(bars, max(bars, default=0), columns, rows, marks=marks)
    assert len(lines) == rows
    assert max(map(len, lines), default=0) <= columns
    assert set("".join(lines)) <= set(marks)
    width = len(lines[-1]) and max(1, min(3, columns // len(bars)))
    heights = [
        sum(marks.index(line[at : at + 1] or " ") for line in lines)
        for at in range(0, len(bars) * width, width or 1)
    ]
    for value, height in zip(bars, heights):
        assert (height > 0) == (value > 0)
    order = sorted(range(len(heights)), key=lambda place: bars[place])
    assert [heights[place] for place in order] == sorted(heights)


def test_a_chart() -> None:
    assert chart([0, 4, 8, 16], 16, 4, 2) == ["   █", " ▄██"]
    assert chart([0, 4, 8, 100], 16, 4, 2, marks=PLAIN) == ["   #", " .##"]  # cut off at 16
    assert chart([5], 5, 80, 1) == ["███"]
    assert chart([], 0, 80, 2) == ["", ""]
