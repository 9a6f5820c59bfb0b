"""Words of the command line made into values; what makes none is refused with exit code 2."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import click

from ibtfs.errors import UsageError

if TYPE_CHECKING:
    BytesType = click.ParamType[bytes]
    IntType = click.ParamType[int]
    TextType = click.ParamType[str]
else:  # older versions of click have no types for types
    BytesType = IntType = TextType = click.ParamType

NAME_LIMIT = 100
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE)
_UNITS = ["", "K", "M", "G", "T", "P"]


class LocalPath(BytesType):
    """A path on this machine, made absolute; bytes."""

    name = "path"

    def convert(
        self, value: str | bytes, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """*value* as absolute bytes; empty, it means nothing, and not the working directory."""
        if not value:
            self.fail("an empty path", param, ctx)
        return os.path.abspath(os.fsencode(value))


class RepositoryPlace(LocalPath):
    """Where a repository lies: a path on this machine, made absolute, or an address; bytes."""

    name = "repository"

    def convert(
        self, value: str | bytes, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """*value* as bytes."""
        from ibtfs.store.storage.address import address_of, is_remote

        place = os.fsencode(value)
        if not is_remote(place):
            return super().convert(value, param, ctx)
        try:
            address_of(place)
        except UsageError as error:
            self.fail(str(error), param, ctx)
        return place


class StoredPath(BytesType):
    """A path inside a backup point; bytes, as they are."""

    name = "path"

    def convert(
        self, value: str | bytes, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """*value* as bytes."""
        return os.fsencode(value)


class Size(IntType):
    """A number of bytes: ``100M`` or ``1.5G``, in powers of 1024."""

    name = "size"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """*value* in bytes."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(value.strip())
        size = float(match[1]) * 1024 ** _UNITS.index(match[2].upper()) if match else 0
        if size < 1 or size >= 2**63:
            self.fail(f"{value!r} is not a size; write 500K, 100M or 1.5G", param, ctx)
        return int(size)


class Speed(Size):
    """Bytes a second: ``500K`` or ``2M``, and a mere number is KiB, as other programs have it."""

    name = "speed"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """*value* in bytes."""
        text = str(value).strip()
        if text == "0":  # no limit
            return 0
        is_mere = isinstance(value, str) and text.isdecimal()
        return super().convert(f"{text}K" if is_mere else value, param, ctx)


class Percent(IntType):
    """A share in whole percent, 0 to 100: ``10%`` or ``10``."""

    name = "percent"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """*value* in percent."""
        text = str(value).strip().removesuffix("%").strip()
        if not (text.isascii() and text.isdecimal()) or int(text[:4]) > 100:
            self.fail(f"{value!r} is not a share; write 5%, 10% or 25%", param, ctx)
        return int(text)


class Text(TextType):
    """Text that can be stored and shown: valid Unicode without control characters."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """*value*, checked."""
        # of what is not printable, a zero-width joiner belongs into an emoji
        if not all(char.isprintable() or char == "\u200d" for char in value):
            self.fail(f"{value!a} holds what cannot be printed", param, ctx)
        return value


class Name(Text):
    """Text that can be a file's name: a tag, a host, a source."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """*value*, checked."""
        name = super().convert(value, param, ctx)
        if not name.strip() or name in {".", ".."} or "/" in name:
            self.fail(f"{value!r}: must not be empty, '.' or '..', or hold '/'", param, ctx)
        if len(name.encode()) > NAME_LIMIT:
            self.fail(f"{value!r} is longer than {NAME_LIMIT} bytes", param, ctx)
        return name


class Hosts(Name):
    """Names of hosts, between commas: a tuple of them."""

    name = "hosts"

    def convert(  # type: ignore[override]
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """*value* in its parts, each checked."""
        return tuple(
            super(Hosts, self).convert(one.strip(), param, ctx) for one in value.split(",")
        )


class SourceName(Name):
    """A name for a source: a folder of the mount, and not to be taken for a point or a moment."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """*value*, checked."""
        name = super().convert(value, param, ctx)
        if name.startswith((".", "@")):
            self.fail(f"{value!r} begins with {value[0]!r}, which a source's may not", param, ctx)
        if name == "latest" or name.startswith("latest~"):
            self.fail(f"{value!r} always means the newest point: choose another", param, ctx)
        return name


class Tag(Name):
    """A name that does not begin with a dot: names of tags that do would be hidden."""

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """*value*, checked."""
        if value.startswith("."):
            self.fail(f"{value!r} begins with a dot", param, ctx)
        if value.endswith(".part"):
            self.fail(f"{value!r} ends in .part, as files do that are not whole", param, ctx)
        return super().convert(value, param, ctx)


class FileName(BytesType):
    """What can be the name of a file; bytes."""

    name = "name"

    def convert(
        self, value: str | bytes, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """*value* as bytes, checked."""
        name = os.fsencode(value)
        if not name or name in {b".", b".."} or b"/" in name or len(name) > 255:
            self.fail(f"{value!r} cannot be the name of a file", param, ctx)
        return name
