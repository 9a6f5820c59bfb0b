"""What was seen of sealed repositories, as it is remembered."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibtfs.errors import WrongKey
from ibtfs.store.pins import Pins
from ibtfs.store.storage.machine import login_name


@pytest.fixture
def pins(tmp_path: Path) -> Pins:
    (tmp_path / "pins").mkdir()
    return Pins(os.fsencode(tmp_path / "pins"))


@pytest.mark.parametrize("other", [
    "ssh://{login}@host/srv/backups", "{login}@HOST:/srv/backups/", "sftp://host:22//srv/backups",
])  # fmt: skip
def test_what_lay_at_an_address_is_known_by_another_spelling(pins: Pins, other: str) -> None:
    """Else whoever has the server gets the next backup in clear."""
    pins.note_place(b"sftp://host/srv/backups")
    root = other.format(login=login_name()).encode()
    with pytest.raises(WrongKey, match="a sealed repository lay there before"):
        pins.require_unsealed(root)
    pins.require_unsealed(b"sftp://host/srv/others")
    pins.drop_place(root)
    pins.require_unsealed(b"sftp://host/srv/backups")
