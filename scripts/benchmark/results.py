"""What was measured: a record for each step of each tool in each run, and the medians of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmark.tools import PEERS, TOOLS


@dataclass(frozen=True)
class Record:
    """One step of one tool. *change* counts the changes of a set; 0 for other steps."""

    set: str
    step: str
    tool: str
    run: int
    seconds: float
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    stored_bytes: int | None = None
    cache_bytes: int | None = None
    change: int = 0
    wrong: tuple[str, ...] = ()
    requests: Mapping[str, int] = field(default_factory=dict)
    """Of a repository on another machine: how often what was asked for there."""
    moved: tuple[int, int] = (0, 0)
    """Bytes sent there, and received."""


@dataclass(frozen=True)
class Row:
    """The medians of one step of one tool; of stored bytes, the changes of a run are summed."""

    set: str
    step: str
    tool: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    stored_bytes: float | None
    cache_bytes: float | None
    wrong: tuple[str, ...]
    requests: Mapping[str, int]
    """Those of the first run, as the bytes *moved*."""
    moved: tuple[int, int]


@dataclass
class Results:
    """All records, in the order in which they came; to be added to by one thread."""

    records: list[Record] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Add one."""
        self.records.append(record)

    def take(self, stored: Iterable[dict[str, Any]]) -> None:
        """Add records as they lie in a JSON file. Raises TypeError, KeyError."""
        for values in stored:
            lists = [name for name in ("wrong", "moved") if name in values]
            self.add(Record(**(values | {name: tuple(values[name]) for name in lists})))

    def steps(self) -> list[tuple[str, str]]:
        """Return each set and step once, in order."""
        return list(dict.fromkeys((record.set, record.step) for record in self.records))

    def rows(self, set_name: str, step: str) -> list[Row]:
        """Return a row for each tool that did the step: ibtfs, its peers, the system's own."""
        found = [record for record in self.records if (record.set, record.step) == (set_name, step)]
        names = sorted({record.tool for record in found}, key=_order)
        return [_row([record for record in found if record.tool == name]) for name in names]

    def row(self, set_name: str, step: str, tool: str) -> Row | None:
        """Return the row of one tool, if it did the step."""
        return next((row for row in self.rows(set_name, step) if row.tool == tool), None)

    def wrong(self) -> list[Record]:
        """Return the records of what was restored wrong, or failed."""
        return [record for record in self.records if record.wrong]


def best(rows: Iterable[Row], figure: str, among: Iterable[str] = PEERS) -> Row | None:
    """Return the row whose *figure*, a field of Row, is the smallest; None if no tool has it."""
    right = [row for row in rows if row.tool in among and not row.wrong]
    chosen = [row for row in right if getattr(row, figure) is not None]
    return min(chosen, key=lambda row: float(getattr(row, figure)), default=None)


def _order(tool: str) -> tuple[int, str]:
    names = list(TOOLS)
    return (names.index(tool) if tool in names else len(names), tool)


def _row(records: list[Record]) -> Row:
    def median(name: str) -> float:
        return statistics.median(float(getattr(record, name)) for record in records)

    first = records[0]
    return Row(
        set=first.set, step=first.step, tool=first.tool, seconds=median("seconds"),
        cpu_seconds=median("cpu_seconds"),
        peak_bytes=max(record.peak_bytes for record in records),
        stored_bytes=_summed(records, "stored_bytes"), cache_bytes=_summed(records, "cache_bytes"),
        wrong=tuple(dict.fromkeys(line for record in records for line in record.wrong)),
        requests=first.requests, moved=first.moved,
    )  # fmt: skip


def _summed(records: list[Record], name: str) -> float | None:
    """Return the median, over the runs, of the sum of a run."""
    sums: dict[int, int] = {}
    for record in records:
        value = getattr(record, name)
        if value is not None:
            sums[record.run] = sums.get(record.run, 0) + value
    return statistics.median(sums.values()) if sums else None
