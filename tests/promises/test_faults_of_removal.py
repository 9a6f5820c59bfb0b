"""A disk that fails while points are removed and space is freed; ``scripts/campaign removal``
does it at every step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.faulty import ENOSPC, FAULTS, Scene, examine


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_some_steps_loses_nothing(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    scene = Scene(fast_path, seed=5)
    number = met = 0
    while examine(scene, monkeypatch, fault, number, again=number // 2 if number % 2 else None):
        met += 1
        number += 7
    assert met > 1


def test_a_donor_gives_its_payload_though_what_it_copied_from_is_gone(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk lets archives go before the record of the donor can say so."""
    assert examine(Scene(fast_path, seed=110), monkeypatch, ENOSPC, 19, again=3)
