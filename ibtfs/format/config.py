"""The configuration of a repository, ``ibtfs.json``: text to values and back, pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from ibtfs.errors import FormatDamaged, UnsupportedFormat
from ibtfs.format.frames import FORMAT_VERSION

LEVEL = 1
"""The zstd level of a repository that was made without asking for one."""
HIGHEST_LEVEL = 22
ID_SIZE = 16
CONFIG_LIMIT = 1 << 20


@dataclass(frozen=True)
class Config:
    """What a repository says of itself.

    *id* are its 16 random bytes; *shared*: files are made for a group; *level* is zstd's.
    *write_requires* names features without which nothing may be written.  *is_sealed*: nothing can
    be read without a key.
    """

    id: bytes
    shared: bool = False
    level: int = LEVEL
    write_requires: tuple[str, ...] = ()
    is_sealed: bool = False


def encode_config(config: Config) -> bytes:
    """The text of a configuration, which a person can read."""
    values: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "id": config.id.hex(),
        "shared": config.shared,
        "compression": config.level,
        **({"sealed": True} if config.is_sealed else {}),
        "read_requires": [],
        "write_requires": list(config.write_requires),
    }
    values["check"] = config_check(values)
    return (json.dumps(values, indent=1) + "\n").encode()


def config_check(values: Mapping[str, Any]) -> str:
    """The check sum of a configuration's other values."""
    others = {key: value for key, value in values.items() if key != "check"}
    return blake3(json.dumps(others, sort_keys=True).encode()).hexdigest(16)


def decode_config(text: bytes, where: str) -> Config:
    """The configuration in *text*; messages name it *where*.

    Raises FormatDamaged, UnsupportedFormat.
    """
    try:
        values = json.loads(text)
        version, repository_id = values["format"], bytes.fromhex(values["id"])
        needed, write_requires = (
            values.get(key, []) for key in ("read_requires", "write_requires")
        )
        shared, level = values.get("shared", False), values.get("compression", LEVEL)
        check, is_sealed = values.get("check"), values.get("sealed", False)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatDamaged(f"{where}: not readable ({error!r})") from error
    if version == FORMAT_VERSION and check != config_check(values):
        raise FormatDamaged(
            f"{where}: its values do not have the check sum that they should; the "
            "repository's id also stands in clear near the end of every archive file"
        )
    right = type(version) is int and type(needed) is list and type(level) is int
    right = right and len(repository_id) == ID_SIZE and {type(shared), type(is_sealed)} == {bool}
    if not right or type(write_requires) is not list:
        raise FormatDamaged(f"{where}: a value is of a wrong type")
    if not 1 <= level <= HIGHEST_LEVEL:
        raise FormatDamaged(f"{where}: there is no compression {level}")
    if version < 1:
        raise FormatDamaged(f"{where}: there is no format {version}")
    if version > FORMAT_VERSION:
        raise UnsupportedFormat(
            f"{where} says format {version}, and this ibtfs reads up to "
            f"{FORMAT_VERSION}: upgrade ibtfs (or, if no newer one wrote here, it is damaged)"
        )
    if needed:
        features = ", ".join(map(str, needed))
        raise UnsupportedFormat(f"{where} asks for what is unknown here: {features}")
    return Config(repository_id, shared, level, tuple(map(str, write_requires)), is_sealed)
