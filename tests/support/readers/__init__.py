"""Every reader of bytes that come from outside, by name: what is tried on them with any bytes.

A reader takes bytes as they may lie somewhere, and reads them to the end as ibtfs would.  Where a
checksum, a frame or compression stands before what is read, the reader puts these around the bytes
first: who damages on purpose can do that, too, and otherwise nothing but the checksum would be
tried.  It raises an IbtfsError, or nothing; AssertionError where what was read is not the same
when it is written and read once more.
"""

from __future__ import annotations

from tests.support.readers.base import Reader, Shape
from tests.support.readers.blocks import BLOCKS
from tests.support.readers.formats import FORMATS
from tests.support.readers.objects import OBJECTS

READERS: dict[str, Reader] = {**FORMATS, **OBJECTS, **BLOCKS}

__all__ = ["READERS", "Reader", "Shape"]
