"""Tables for a person, JSON for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmark.results import Results, Row, best
from benchmark.targets import Verdict

LINE = "{:<32} {:<13} {:>9} {:>9} {:>7} {:>8} {:>8} {:>11} {:>8} {:>9}"
HEADINGS = ("STEP", "TOOL", "SECONDS", "/ IBTFS", "/ BEST", "CPU S", "PEAK MB", "STORED KB",
            "/ IBTFS", "CACHE KB")  # fmt: skip
NOTES = (
    "Medians. / IBTFS: divided by the figure of ibtfs; / BEST: by that of the best peer.",
    "PEAK MB: memory of the largest process. STORED KB: what the repository takes more on its disk",
    "(blocks), changes of a run summed; caches outside of it apart. Everything was in the page",
    "cache before it was read, for every tool; dirty pages were written before each step.",
    "native: tar | zstd -1 (full), one read and hash of the file (log), cp -a (restore): no peer.",
    "requests: what was asked of the server of a repository on another machine, in the first run.",
    "rdiff-backup keeps times in whole seconds, and is compared so; all other times are exact.",
)


def tables(results: Results, verdicts: Sequence[Verdict], about: dict[str, str]) -> Iterator[str]:
    """Yield the lines of one table for each set."""
    for set_name in dict.fromkeys(name for name, _ in results.steps()):
        yield from ("", f"{set_name}: {about.get(set_name, '')}", LINE.format(*HEADINGS).rstrip())
        for name, step in results.steps():
            if name == set_name:
                yield from _step(results.rows(name, step))
                yield from (f"{'':<32} {text}" for text in _judgements(verdicts, name, step))


def summary(results: Results, verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield lines that say which targets were missed, and what was wrong."""
    known = [verdict for verdict in verdicts if verdict.met is not None]
    missed = [verdict for verdict in known if not verdict.met]
    yield f"Targets: {len(known) - len(missed)} met, {len(missed)} missed, " \
          f"{len(verdicts) - len(known)} not measured"  # fmt: skip
    for verdict in missed:
        yield f"  missed: {verdict.target.set} {verdict.target.step}: {_told(verdict)}"
    for record in results.wrong():
        yield f"  WRONG: {record.tool}: {record.set} {record.step}: {'; '.join(record.wrong)}"


def document(
    results: Results, verdicts: Sequence[Verdict], versions: dict[str, str], command: Sequence[str]
) -> dict[str, object]:
    """Return all as plain values: records, medians, targets, machine, versions."""
    return {
        "machine": machine(), "versions": versions, "command": list(command),
        "units": "seconds; bytes; stored_bytes and cache_bytes as allocated on disk",
        "records": [asdict(record) for record in results.records],
        "medians": [asdict(row) for name, step in results.steps()
                    for row in results.rows(name, step)],
        "targets": [{**asdict(v.target), "text": v.text, "value": v.value, "met": v.met}
                    for v in verdicts],
    }  # fmt: skip


def machine() -> dict[str, object]:
    """Return what the figures depend upon."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": models[0] if models else platform.machine(), "processors": os.cpu_count(),
        "memory_bytes": memory, "kernel": platform.release(), "python": platform.python_version(),
    }  # fmt: skip


def _step(rows: Sequence[Row]) -> Iterator[str]:
    own = next((row for row in rows if row.tool == "ibtfs"), None)
    peer = best(rows, "seconds")
    seconds, stored = (own.seconds, own.stored_bytes) if own else (None, None)
    for number, row in enumerate(rows):
        if row.wrong:
            yield f"{row.step if number == 0 else '':<32} {row.tool:<13} WRONG: {row.wrong[0]}"
            continue
        yield LINE.format(
            row.step if number == 0 else "", row.tool, f"{row.seconds:.2f}",
            _over(row.seconds, seconds), _over(row.seconds, peer.seconds if peer else None),
            f"{row.cpu_seconds:.2f}", f"{row.peak_bytes / 1e6:.0f}" if row.peak_bytes else "",
            _kilobytes(row.stored_bytes), _over(row.stored_bytes, stored),
            _kilobytes(row.cache_bytes),
        ).rstrip()  # fmt: skip
        if row.requests:
            yield f"{'':<32} {'':<13} {asked(row)}"


def asked(row: Row) -> str:
    """Return what was asked for on another machine, the most frequent first, and what moved."""
    ordered = sorted(row.requests.items(), key=lambda one: (-one[1], one[0]))
    parts = ", ".join(f"{name} {count:,}" for name, count in ordered)
    sent, received = (f"{size / 1000:,.0f} KB" for size in row.moved)
    return f"{sum(row.requests.values()):,} requests ({parts}), {sent} sent, {received} received"


def _judgements(verdicts: Sequence[Verdict], set_name: str, step: str) -> Iterator[str]:
    for verdict in verdicts:
        if (verdict.target.set, verdict.target.step) == (set_name, step):
            mark = {True: "met", False: "MISSED", None: "not measured"}[verdict.met]
            yield f"-> {_told(verdict)}: {mark}"


def _told(verdict: Verdict) -> str:
    if verdict.value is None:
        return verdict.text
    value = verdict.value
    if verdict.target.kind == "at most" and verdict.target.figure != "seconds":
        return f"{verdict.text}: {value / 1e6:.1f} MB" if value >= 1e6 else \
               f"{verdict.text}: {value:,.0f}"  # fmt: skip
    return f"{verdict.text}: {value:.2f}"


def _over(one: float | None, other: float | None) -> str:
    return "" if one is None or not other else f"{one / other:.2f}"


def _kilobytes(value: float | None) -> str:
    return "" if value is None else f"{value / 1000:,.0f}"
