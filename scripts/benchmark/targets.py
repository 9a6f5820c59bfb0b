"""What ibtfs wants to reach, each as a bound on what was measured, and whether it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmark.results import Results, best
from benchmark.tools import PEERS

MB = 10**6
Kind = Literal["faster", "part", "at most", "floor", "times"]


@dataclass(frozen=True)
class Target:
    """A bound of one step of one set.

    The *kind* says which: "faster": the best of *among* takes at least *bound* times as long.
    "part": *figure* is at most *bound* times the smallest of *among*. "at most": *figure* is at
    most *bound*. "floor": at most *bound* seconds more than the system's own programs. "times": at
    most *bound* times what the step *than* of ibtfs has.
    """

    set: str
    step: str
    kind: Kind
    bound: float
    figure: str = "seconds"
    among: tuple[str, ...] = PEERS
    than: str = ""


@dataclass(frozen=True)
class Verdict:
    """A target, what it says in words, and how far it was met: None where it was not measured."""

    target: Target
    text: str
    value: float | None
    met: bool | None


def _set(name: str, *bounds: tuple[str, Kind, float, str] | Target) -> tuple[Target, ...]:
    return tuple(item if isinstance(item, Target) else Target(name, *item) for item in bounds)


ALL_STEPS = ("full", "unchanged", "change", "restore")
NATIVE = ("native",)
CHUNKERS = ("restic", "borg")
TARGETS: tuple[Target, ...] = (
    *_set("many", ("full", "faster", 4, "seconds"), ("full", "part", 0.8, "stored_bytes"),
          ("unchanged", "faster", 6, "seconds"), ("unchanged", "at most", 8192, "stored_bytes"),
          ("change", "faster", 5, "seconds"), ("change", "part", 0.5, "stored_bytes"),
          ("restore", "faster", 1.7, "seconds"),
          Target("many", "restore", "faster", 1, among=NATIVE)),
    *_set("src", ("full", "faster", 2.5, "seconds"), ("unchanged", "faster", 2.5, "seconds"),
          ("change", "faster", 2.5, "seconds"), ("change", "part", 0.3, "stored_bytes")),
    *_set("db", Target("db", "full", "faster", 2, among=CHUNKERS),
          Target("db", "full", "faster", 1, among=("rdiff-backup",)),
          ("change", "faster", 5, "seconds"), ("change", "part", 0.15, "stored_bytes")),
    *_set("vm", ("full", "faster", 2, "seconds"), ("change", "faster", 2.5, "seconds"),
          ("change", "part", 0.8, "stored_bytes")),
    *(Target(name, "restore", "faster", bound, among=among) for name in ("db", "vm")
      for bound, among in ((3, CHUNKERS), (0.7, ("rdiff-backup",)))),
    *_set("log", ("change", "floor", 0.3, "seconds"), ("change", "part", 1, "stored_bytes")),
    *_set("move", ("change", "faster", 10, "seconds")),
    *(Target(name, step, "at most", 150 * MB, "peak_bytes")
      for name in ("many", "src", "db", "vm", "log", "move") for step in ALL_STEPS),
)  # fmt: skip


def verdicts(results: Results, targets: tuple[Target, ...] = TARGETS) -> list[Verdict]:
    """Return the verdict on each target whose set and step ibtfs was measured in."""
    return [_verdict(results, target) for target in targets
            if results.row(target.set, target.step, "ibtfs") is not None]  # fmt: skip


def _verdict(results: Results, target: Target) -> Verdict:
    rows = results.rows(target.set, target.step)
    own = getattr(rows[0], target.figure)
    if target.kind == "at most":
        return _judged(target, f"{_figure(target)} at most {_amount(target)}", own, own)
    if target.kind == "times":
        base = results.row(target.set, target.than, "ibtfs")
        other = getattr(base, target.figure) if base else None
        text = f"{_figure(target)} at most {target.bound:.3g} times that of: {target.than}"
        return _judged(target, text, own, _ratio(own, other))
    if target.kind == "floor":
        floor = best(rows, "seconds", NATIVE)
        text = f"at most {target.bound:g} s more than the floor"
        return _judged(target, text, own, own - floor.seconds if floor else None)
    peer = best(rows, target.figure, target.among)
    other = getattr(peer, target.figure) if peer else None
    whose = f"of {peer.tool if peer else ' or '.join(target.among)}"
    if target.kind == "faster":
        text = f"at least {target.bound:.3g} times the speed {whose}"
        return _judged(target, text, own, _ratio(other, own), at_least=True)
    text = f"{_figure(target)} at most {target.bound:.3g} of that {whose}"
    return _judged(target, text, own, _ratio(own, other))


def _judged(
    target: Target, text: str, own: float | None, value: float | None, *, at_least: bool = False
) -> Verdict:
    if own is None or value is None:
        return Verdict(target, text, None, None)
    return Verdict(target, text, value, value >= target.bound if at_least else
                   value <= target.bound)  # fmt: skip


def _ratio(one: float | None, other: float | None) -> float | None:
    return None if one is None or not other else one / other


def _figure(target: Target) -> str:
    return {"seconds": "time", "stored_bytes": "bytes", "peak_bytes": "memory"}[target.figure]


def _amount(target: Target) -> str:
    if target.figure == "seconds":
        return f"{target.bound:.3g} s"
    return f"{target.bound / MB:g} MB" if target.bound >= MB else f"{target.bound:,.0f} bytes"
