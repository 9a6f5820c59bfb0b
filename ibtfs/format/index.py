"""What an archive's index holds: its header, content records, and how records refer to others.

A reference is a number: the ordinal of an archive in the index's own table of archive ids, shifted
left by 32 bits, plus the number of the record in that archive.  Ordinal 0 is the archive itself,
so that references within it are small.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ibtfs.errors import FormatDamaged, LimitExceeded
from ibtfs.format.extents import CONTENT_LIMIT
from ibtfs.format.frames import DATA_STREAMS
from ibtfs.format.packing import pack, unpack_map, unpack_tuple

DEPTH_LIMIT = 64
DONOR_LIMIT = 64
PART_LIMIT = 64
ARCHIVE_LIMIT = 1 << 20
SHELL_DIGEST = bytes(32)
"""Instead of a digest: the record is kept for its payload, and is no content any more."""
ARCHIVE_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{7,119}\.[0-9]{1,6}\Z")
NUMBERS_LIMIT = 1 << 26
"""Contents, and states, of an archive at most: a byte or more of memory is taken for each."""
LOW = 0xFFFFFFFF
"""Of a reference: the number of the record; above it stands the ordinal of the archive."""


class Reference(NamedTuple):
    """A record of an archive, wherever it is named from."""

    archive: str
    number: int


@dataclass(frozen=True)
class IndexHeader:
    """What an archive says of itself.

    *archives* is its table of archive ids, itself first; empty text is one no longer needed.
    *epoch* as in FORMAT.rst.  *has_data* and *has_sigs* tell whether those files exist:
    what is small lies in the index itself.  *ends* has, by name of a stream, one more than the last
    number or address that was ever given in it; of the streams that it does not have, what is there
    is all that ever was.  *within* looks at each record of one that is not trusted.
    """

    archives: tuple[str, ...]
    epoch: int
    contents: int
    states: int
    has_data: bool
    has_sigs: bool
    ends: Mapping[str, int] = field(default_factory=dict)
    within: Callable[[ContentRecord, str], ContentRecord] | None = field(
        default=None, compare=False, repr=False
    )

    def encode(self) -> bytes:
        """The record body."""
        values: dict[str, Any] = {
            "archives": self.archives,
            "epoch": self.epoch,
            "contents": self.contents,
            "states": self.states,
            "data": self.has_data,
            "sigs": self.has_sigs,
        }
        if self.ends:
            values["ends"] = dict(self.ends)
        return pack(values)

    @classmethod
    def decode(cls, body: bytes, where: str) -> IndexHeader:
        """The header in *body*.  Raises FormatDamaged."""
        values = unpack_map(body, where)
        archives = values.get("archives")
        numbers = [values.get(key) for key in ("epoch", "contents", "states")]
        flags = [values.get(key) for key in ("data", "sigs")]
        if type(archives) is not tuple or not 0 < len(archives) <= ARCHIVE_LIMIT:
            raise FormatDamaged(f"{where}: not the header of an index")
        good = is_archive_id(archives[0])
        good = good and all(name == "" or is_archive_id(name) for name in archives)
        most = (LOW, NUMBERS_LIMIT, NUMBERS_LIMIT)
        if not good or not all(type(n) is int and 0 <= n <= m for n, m in zip(numbers, most)):
            raise FormatDamaged(f"{where}: not the header of an index")
        if not all(type(flag) is bool for flag in flags):
            raise FormatDamaged(f"{where}: not the header of an index")
        ends = values.get("ends", {})
        if type(ends) is not dict or not _are_ends(ends):
            raise FormatDamaged(f"{where}: not the header of an index")
        return cls(archives, *numbers, *flags, ends)  # type: ignore[arg-type, call-arg]

    def reference(self, packed: Any, where: str) -> Reference:
        """The record that the number *packed* names.  Raises FormatDamaged."""
        if type(packed) is not int or not 0 <= packed >> 32 < len(self.archives):
            raise FormatDamaged(f"{where}: {packed!r} refers to no archive")
        archive = self.archives[packed >> 32]
        if not archive:
            raise FormatDamaged(f"{where}: refers to an archive that it said it does not need")
        return Reference(archive, packed & LOW)


def _are_ends(ends: Mapping[Any, Any]) -> bool:
    return all(
        type(name) is str and type(end) is int and 0 <= end <= CONTENT_LIMIT
        for name, end in ends.items()
    )


def is_archive_id(value: Any) -> bool:
    """Whether *value* is text that may name an archive."""
    return type(value) is str and ARCHIVE_ID.match(value) is not None


_FIVE_VALUES = b"\x95"
"""How msgpack begins an array of five."""
_DIGEST_HEAD = b"\xc4\x20"
"""How msgpack begins 32 bytes."""


class ContentRecord(NamedTuple):
    """One content: what it is, and where its bytes are.

    Its payload is *length* bytes from *start* of data stream *stream*.  Without a map the payload
    is the content.  *depth* is 0 without a base, else more than the base's.  *donors* are
    contents whose payloads the map names.  *map_first* and *map_parts* say which map records,
    *slabs* which record of the SigVault (-1: none).

    A *shell* was a content once, and is kept for its payload alone, which others take bytes from:
    what of it is there still, its map says.
    """

    digest: bytes
    size: int
    stream: int
    start: int
    length: int
    depth: int = 0
    base: Reference | None = None
    donors: tuple[Reference, ...] = ()
    map_first: int = 0
    map_parts: int = 0
    slabs: int = -1

    @property
    def is_plain(self) -> bool:
        """Whether the payload is the content, byte for byte."""
        return not self.map_parts

    @property
    def is_shell(self) -> bool:
        """Whether it is kept for its payload alone."""
        return self.digest == SHELL_DIGEST


def shell_of(record: ContentRecord) -> ContentRecord:
    """The record of what is left when nothing but the payload of a content is kept.

    A shell stays what it is.
    """
    if record.is_shell:
        return record
    return ContentRecord(SHELL_DIGEST, record.length, record.stream, record.start, record.length)


def encode_plain(digest: bytes, size: int, stream: int, start: int) -> bytes:
    """The body of the record of a content whose payload is itself."""
    return pack((digest, size, stream, start, size))


def encode_record(record: ContentRecord, ordinal: Any) -> bytes:
    """The body of *record*; *ordinal* gives the ordinal of an archive id.

    Raises LimitExceeded.
    """
    too_much = len(record.donors) > DONOR_LIMIT or record.depth > DEPTH_LIMIT
    if too_much or record.size > CONTENT_LIMIT:
        raise LimitExceeded(f"A content of {record.size} bytes is beyond the format's limits")
    if not record.map_parts and record.slabs < 0:
        return pack(record[:5])
    values: list[Any] = list(record[:5])
    refs = (record.base, *record.donors) if record.base else record.donors
    packed = [(ordinal(ref.archive) << 32) | ref.number for ref in refs]
    values += [
        record.depth, packed[0] if record.base else None,
        packed[1:] if record.base else packed,
        record.map_first, record.map_parts, record.slabs,
    ]  # fmt: skip
    return pack(values)


def decode_record(body: bytes, header: IndexHeader, where: str) -> ContentRecord:
    """The record in *body*, its references resolved by *header*.  Raises FormatDamaged."""
    values = unpack_tuple(body, where, 5)
    digest, size, stream, start, length = values[:5]
    if type(digest) is not bytes or len(digest) != 32 or not _sane((size, stream, start, length)):
        raise FormatDamaged(f"{where}: not a content record")
    if stream not in DATA_STREAMS or not size:
        raise FormatDamaged(f"{where}: not a content record")
    record = ContentRecord(digest, size, stream, start, length)
    if len(values) > 5:
        record = _decode_mapped(record, values, header, where)
    elif length != size:
        raise FormatDamaged(f"{where}: a plain content is not as long as its payload")
    return record if header.within is None else header.within(record, where)


def record_digest(body: bytes) -> bytes | None:
    """The digest in *body*, taken from where it mostly stands; None if it is not there.

    A page that is written anew needs the digests of all its rows, and nothing else of them.
    """
    return body[3:35] if body[1:3] == _DIGEST_HEAD and len(body) >= 35 else None


def is_plain_body(body: bytes) -> bool:
    """Whether *body* is the record of a content with neither map nor digests of slabs."""
    return body[:1] == _FIVE_VALUES


def _decode_mapped(
    record: ContentRecord, values: Sequence[Any], header: IndexHeader, where: str
) -> ContentRecord:
    if len(values) < 11 or type(values[7]) is not tuple:
        raise FormatDamaged(f"{where}: not a content record")
    depth, packed, donors, first, parts, slabs = values[5:11]
    if not _sane([depth, first, parts]) or type(slabs) is not int or slabs < -1:
        raise FormatDamaged(f"{where}: not a content record")
    if depth > DEPTH_LIMIT or len(donors) > DONOR_LIMIT or parts > PART_LIMIT:
        raise FormatDamaged(f"{where}: a content beyond the limits of the format")
    base = None if packed is None else header.reference(packed, where)
    if (base is None) != (depth == 0) or (not parts and (base or record.length != record.size)):
        raise FormatDamaged(f"{where}: a content record that contradicts itself")
    if record.is_shell and (base or donors or slabs >= 0 or record.length != record.size):
        raise FormatDamaged(f"{where}: a payload that is kept, and is to be more than that")
    return record._replace(
        depth=depth, base=base, map_first=first, map_parts=parts, slabs=slabs,
        donors=tuple(header.reference(donor, where) for donor in donors),
    )  # fmt: skip


def _sane(numbers: Sequence[Any]) -> bool:
    return set(map(type, numbers)) == {int} and 0 <= min(numbers) <= max(numbers) <= CONTENT_LIMIT
