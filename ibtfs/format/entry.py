"""Directory states: rows, pages, and their location-free digests.

A page is three columns, all as long as the directory's part that it lists:

*stamps*
    ``(name, mode, uid, gid, size, mtime_ns, ctime_ns, inode, links)``: what one ``lstat`` tells,
    sorted by name, so that a listing compares with a stored page in one step
*refs*
    what the row leads to: for a regular file a packed content reference (None if it is empty),
    for a directory ``(packed state reference, 24 bytes of its digest)``, for a symbolic link its
    target, for a device its number
*extras*
    what few rows have, by row number: see the EXTRA constants
"""

from __future__ import annotations

import operator
import stat
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from ibtfs.errors import FormatDamaged, UnsupportedFormat
from ibtfs.format.digests import Digests
from ibtfs.format.extents import CONTENT_LIMIT
from ibtfs.format.packing import pack, unpack_tuple

NAME: Final = 0
MODE: Final = 1
UID: Final = 2
GID: Final = 3
SIZE: Final = 4
MTIME: Final = 5
CTIME: Final = 6
INODE: Final = 7
LINKS: Final = 8
"""Columns of a stamp."""

XATTRS, XATTRS_REF, GROUP, BLOCKS, FLAGS = "x", "X", "g", "b", "f"
"""Extras: xattrs as a map, or as a reference to a content that is the packed map; the ordinal of
the device (where not 0) that the inode of a row with several links belongs to; st_blocks where it
is not what the size lets expect; flags."""

KEPT, UNSTABLE, NOT_READ, LEFT_OUT = 1, 2, 4, 8
"""Flags: kept from an earlier point, for it could not be read; changed while it was read; a
directory that could not be read and is not known from an earlier point; a directory that was left
empty on purpose: another file system is mounted there, or it is the repository."""

ONE_PAGE = 64
PAGE_ROWS = 4096
PAGE_BYTES = 1 << 20
NAME_LIMIT = 255
HASH_SIZE = 24
_BOUNDARY = 0x3FF
_PAGE_HEAD = b"\x94\x00"
"""How a page begins in msgpack: an array of four, the first being 0."""

Stamp = tuple[bytes, int, int, int, int, int, int, int, int]
Extras = dict[str, Any]


class Page(NamedTuple):
    """Some rows of a directory, sorted by name, as they are stored."""

    stamps: tuple[Stamp, ...]
    refs: tuple[Any, ...]
    extras: dict[int, Extras]


class PageEntry(NamedTuple):
    """A page in the list of a directory of several pages."""

    ref: int
    digest: bytes
    rows: int
    last: bytes


def expected_blocks(mode: int, size: int) -> int:
    """The 512-byte blocks that most file systems show for an entry of *size* bytes."""
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return (size + 4095) // 4096 * 8
    return 0


def ends_page(name: bytes, by: Digests) -> bool:
    """Whether a page ends after *name*: about one name in 1,024 does, whatever surrounds it."""
    return not int.from_bytes(by.plain(name)[:2], "little") & _BOUNDARY


def split_rows(stamps: Sequence[Stamp], by: Digests) -> Iterator[slice]:
    """Which rows make up each page of a directory with these *stamps*, all of its rows.

    A small directory is one page.  In others a page ends after the names that ends_page tells,
    at PAGE_ROWS, or when the targets of its symbolic links reach PAGE_BYTES.
    """
    if len(stamps) <= ONE_PAGE:
        yield slice(0, len(stamps))
        return
    first = weight = 0
    for row, stamp in enumerate(stamps):
        if stat.S_ISLNK(stamp[MODE]):
            weight += stamp[SIZE]
        if ends_page(stamp[NAME], by) or row - first + 1 >= PAGE_ROWS or weight >= PAGE_BYTES:
            yield slice(first, row + 1)
            first, weight = row + 1, 0
    if first < len(stamps):
        yield slice(first, len(stamps))


def encode_page(page: Page) -> bytes:
    """The record body of a page; also of the state of a directory of one page."""
    return pack((0, *page))


def is_page(body: bytes) -> bool:
    """Whether *body* is a page, not a list of pages."""
    return body[:2] == _PAGE_HEAD


def is_page_of(body: bytes, stamps: Sequence[Stamp]) -> bool:
    """Whether *body* is a page with just these *stamps*, whatever they lead to.

    The packed columns are compared as bytes: no stored page need be decoded to see that nothing
    has changed, which halves the time of a backup of an unchanged tree.
    """
    return is_page(body) and body.startswith(pack(stamps), 2)


def encode_pages(entries: Sequence[PageEntry]) -> bytes:
    """The record body of the state of a directory of several pages."""
    return pack((1, entries))


def decode_state(body: bytes, where: str) -> Page | tuple[PageEntry, ...]:
    """What a record body of the states stream holds.  Raises FormatDamaged."""
    kind, *values = unpack_tuple(body, where, 2)
    if kind == 0 and len(values) >= 3:
        return _checked_page(values[0], values[1], values[2], where)
    if kind == 1 and type(values[0]) is tuple:
        entries = tuple(_checked_entry(item, where) for item in values[0])
        lasts = [entry.last for entry in entries]
        if not entries or any(map(operator.ge, lasts, lasts[1:])):
            raise FormatDamaged(f"{where}: pages out of order")
        return entries
    if type(kind) is int and kind > 1:
        raise UnsupportedFormat(f"{where}: kind {kind} is not known here: upgrade ibtfs")
    raise FormatDamaged(f"{where}: not a directory state")


def decode_page(body: bytes, where: str) -> Page:
    """The page in *body*.  Raises FormatDamaged."""
    page = decode_state(body, where)
    if not isinstance(page, Page):
        raise FormatDamaged(f"{where}: a list of pages where a page should be")
    return page


def _checked_entry(item: Any, where: str) -> PageEntry:
    types = (int, bytes, int, bytes)
    good = type(item) is tuple and tuple(map(type, item)) == types
    if not good or len(item[1]) != HASH_SIZE or not 0 < item[2] <= PAGE_ROWS:
        raise FormatDamaged(f"{where}: not a list of pages")
    return PageEntry(*item)


STAMP_TYPES = (bytes, int, int, int, int, int, int, int, int)
TIME_LIMIT = (1 << 63) * 1_000_000_000
"""Seconds have 64 bits with a sign in every kernel; what lies beyond, no file had."""
TARGET_LIMIT = 4095
XATTR_NAME_LIMIT = 255
XATTR_NAMES_LIMIT = 64 << 10
"""Of all names of an entry, each with the NUL behind it: no kernel lists more."""
_LIMITS = (
    (MODE, 0, 0xFFFFFFFF),
    (UID, 0, 0xFFFFFFFF),
    (GID, 0, 0xFFFFFFFF),
    (SIZE, 0, CONTENT_LIMIT),
    (MTIME, -TIME_LIMIT, TIME_LIMIT - 1),
    (CTIME, -TIME_LIMIT, TIME_LIMIT - 1),
    (INODE, 0, (1 << 64) - 1),
    (LINKS, 0, 0xFFFFFFFF),
)


def _checked_page(stamps: Any, refs: Any, extras: Any, where: str) -> Page:
    """The page of three columns that were decoded; columns are checked whole, for speed."""
    if type(stamps) is not tuple or type(refs) is not tuple or type(extras) is not dict:
        raise FormatDamaged(f"{where}: not a page")
    if len(stamps) != len(refs) or len(stamps) > PAGE_ROWS:
        raise FormatDamaged(f"{where}: columns of different lengths")
    if not stamps:
        if extras:
            raise FormatDamaged(f"{where}: extras of no row")
        return Page(stamps, refs, extras)
    if set(map(type, stamps)) != {tuple} or set(map(len, stamps)) != {len(STAMP_TYPES)}:
        raise FormatDamaged(f"{where}: not a row")
    columns = list(zip(*stamps))
    _check_names(columns[NAME], where)
    _check_numbers(columns, where)
    for row, extra in extras.items():
        if type(row) is not int or not 0 <= row < len(stamps) or type(extra) is not dict:
            raise FormatDamaged(f"{where}: extras of no row")
        check_extra(extra, where)
    for name, mode, size, ref in zip(columns[NAME], columns[MODE], columns[SIZE], refs):
        if not _is_ref(mode, size, ref):
            raise FormatDamaged(f"{where}: {name!r} leads nowhere")
    return Page(stamps, refs, extras)


def _check_names(names: Sequence[Any], where: str) -> None:
    """Raise FormatDamaged unless *names* can be those of a directory, in order."""
    if set(map(type, names)) != {bytes}:
        raise FormatDamaged(f"{where}: not a row")
    joined = b"".join(names)
    if not names[0] or not all(map(operator.lt, names, names[1:])):
        raise FormatDamaged(f"{where}: names out of order")
    if b"/" in joined or b"\0" in joined or b"." in names or b".." in names:
        raise FormatDamaged(f"{where}: names that cannot be")
    if max(map(len, names)) > NAME_LIMIT:
        raise FormatDamaged(f"{where}: a name that is too long")


def _check_numbers(columns: Sequence[Sequence[Any]], where: str) -> None:
    """Raise FormatDamaged unless the numbers of rows are what files can have."""
    for column in columns[MODE:]:
        if set(map(type, column)) != {int}:
            raise FormatDamaged(f"{where}: not a row")
    for number, least, most in _LIMITS:
        if min(columns[number]) < least or max(columns[number]) > most:
            raise FormatDamaged(f"{where}: a row with impossible numbers")


def check_stamp(stamp: Any, where: str) -> None:
    """Raise FormatDamaged unless *stamp* may be one, whatever its name."""
    if type(stamp) is not tuple or tuple(map(type, stamp)) != STAMP_TYPES:
        raise FormatDamaged(f"{where}: not a row")
    for number, least, most in _LIMITS:
        if not least <= stamp[number] <= most:
            raise FormatDamaged(f"{where}: a row with impossible numbers")


def check_root(stamp: Any, where: str) -> None:
    """Raise FormatDamaged unless *stamp* may be that of a source's root."""
    check_stamp(stamp, where)
    if not stat.S_ISDIR(stamp[MODE]):
        raise FormatDamaged(f"{where}: the root is not a directory")


def check_extra(extra: Extras, where: str) -> None:
    """Raises FormatDamaged unless *extra* is what a row may have."""
    for key, value in extra.items():
        if key in (GROUP, BLOCKS, FLAGS, XATTRS_REF):
            good = type(value) is int and 0 <= value < 1 << 63
        elif key == XATTRS:
            good = is_xattrs(value)
        else:
            good = type(key) is str
        if not good:
            raise FormatDamaged(f"{where}: extra {key!r} is not of its type")


def is_xattrs(value: Any) -> bool:
    """Whether *value* is extended attributes by name, as an entry may have them."""
    if type(value) is not dict or len(value) > XATTR_NAMES_LIMIT // 2:
        return False
    good = all(
        type(name) is type(data) is bytes
        and 0 < len(name) <= XATTR_NAME_LIMIT
        and b"\0" not in name
        for name, data in value.items()
    )
    return good and sum(map(len, value)) + len(value) <= XATTR_NAMES_LIMIT


def _is_ref(mode: int, size: int, ref: Any) -> bool:
    """Whether an entry of this mode and size may lead to *ref*."""
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFREG:
        return type(ref) is int if size else ref is None
    if kind == stat.S_IFDIR:
        good = type(ref) is tuple and len(ref) == 2 and type(ref[0]) is int
        return good and type(ref[1]) is bytes and len(ref[1]) == HASH_SIZE
    if kind == stat.S_IFLNK:
        return type(ref) is bytes and len(ref) <= TARGET_LIMIT and b"\0" not in ref
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        return type(ref) is int and 0 <= ref < 1 << 64
    return ref is None


def page_digest(page: Page, tokens: Sequence[Any], digests: dict[int, bytes], by: Digests) -> bytes:
    """The 32-byte location-free digest of *page*.

    *tokens* stand in place of references: the digest of a content, the digest of a directory;
    targets and device numbers as they are.  *digests* are those of xattr contents, by row.
    Inode, ctime, device and flags are not part of "same metadata".
    """
    rows = [(*stamp[:CTIME], stamp[LINKS], token) for stamp, token in zip(page.stamps, tokens)]
    extras = []
    for row, extra in sorted(page.extras.items()):
        xattrs = sorted(extra.get(XATTRS, {}).items())
        portable = (row, xattrs, digests.get(row), extra.get(BLOCKS))
        if portable[1:] != ([], None, None):
            extras.append(portable)
    return by.derived("ibtfs 2026 page", pack((rows, extras)))


def pages_digest(digests: Sequence[bytes], by: Digests) -> bytes:
    """The 32-byte digest of a directory of several pages, from the 24 bytes of each."""
    if len(digests) == 1:
        raise ValueError("A directory of one page has the page's digest")
    return by.derived("ibtfs 2026 pages", b"".join(digests))
