"""The configuration of a repository: what is written is read, and what is wrong is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ibtfs.errors import FormatDamaged, UnsupportedFormat
from ibtfs.format.config import Config, config_check, decode_config, encode_config

CONFIG = Config(bytes(range(16)), shared=True, level=7)


def changed(*, signed: bool = True, **values: Any) -> bytes:
    """The text of CONFIG with other values; *signed*: with the check sum of these."""
    found = json.loads(encode_config(CONFIG)) | values
    if signed:
        found["check"] = config_check(found)
    return json.dumps(found).encode()


def test_what_is_written_is_read() -> None:
    assert decode_config(encode_config(CONFIG), "here") == CONFIG
    assert decode_config(changed(write_requires=["x"]), "here").write_requires == ("x",)


def test_it_is_text_that_a_person_can_read() -> None:
    lines = encode_config(CONFIG).decode().splitlines()
    assert lines[0] == "{"
    assert ' "format": 1,' in lines
    assert ' "id": "000102030405060708090a0b0c0d0e0f",' in lines


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "here: not readable"),
        (b"[]", "here: not readable"),
        (b"{}", "here: not readable"),
        (b"\xff", "here: not readable"),
        (b"[" * 100_000, "here: not readable"),
        (changed(id="zz"), "here: not readable"),
        (changed(id="00"), "here: a value is of a wrong type"),
        (changed(shared=1), "here: a value is of a wrong type"),
        (changed(compression="1"), "here: a value is of a wrong type"),
        (changed(read_requires="x"), "here: a value is of a wrong type"),
        (changed(write_requires=None), "here: a value is of a wrong type"),
        (changed(compression=99), "here: there is no compression 99"),
        (changed(compression=0), "here: there is no compression 0"),
        (changed(format=0), "here: there is no format 0"),
        (changed(format=True), "here: a value is of a wrong type"),
        (changed(signed=False, compression=3), "here: its values do not have the check sum"),
        (changed(signed=False, check=None), "here: its values do not have the check sum"),
    ],
)
def test_what_is_wrong_is_named(text: bytes, message: str) -> None:
    with pytest.raises(FormatDamaged, match=message):
        decode_config(text, "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(format=2), "here says format 2, and this ibtfs reads up to 1: upgrade"),
        (changed(read_requires=["time travel"]), "here asks for what is unknown here: time travel"),
    ],
)
def test_what_is_newer_is_refused(text: bytes, message: str) -> None:
    with pytest.raises(UnsupportedFormat, match=message):
        decode_config(text, "here")


def test_what_nobody_asked_for() -> None:
    made = Config(bytes(16))
    assert (made.shared, made.level, made.write_requires) == (False, 1, ())
    values = json.loads(encode_config(made))
    for key in ("shared", "compression", "read_requires", "write_requires"):
        del values[key]
    values["check"] = config_check(values)
    assert decode_config(json.dumps(values).encode(), "here") == made


@pytest.mark.parametrize("level", [1, 2, 21, 22])
def test_levels_of_compression(level: int) -> None:
    assert decode_config(changed(compression=level), "here").level == level


@pytest.mark.parametrize(
    "values",
    [{"compression": 23}, {"compression": -1}, {"id": "00" * 15}, {"id": "00" * 17},
     {"shared": None}, {"format": "1"}, {"format": -1}, {"compression": True},
     {"read_requires": {}}, {"write_requires": "x"}],
)  # fmt: skip
def test_values_that_cannot_be_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(FormatDamaged, match="here: "):
        decode_config(changed(**values), "here")


def test_a_newer_format_need_not_have_our_check_sum() -> None:
    with pytest.raises(UnsupportedFormat, match="here says format 2"):
        decode_config(changed(signed=False, format=2), "here")


def test_the_check_sum_is_of_all_other_values_in_any_order() -> None:
    values = json.loads(encode_config(CONFIG))
    assert len(values["check"]) == 32
    assert config_check(dict(reversed(values.items()))) == values["check"]
    for key in values.keys() - {"check"}:
        assert config_check({**values, key: "other"}) != values["check"]
