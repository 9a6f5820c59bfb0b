"""Reed-Solomon codes: blocks that are lost are made again from as many others; the home of zfec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ibtfs.errors import LibraryMissing

BLOCKS_LIMIT = 256
"""Blocks that belong together, those of parity among them: the code is one of bytes."""
_MISSING = "Parity needs the Python library zfec: pip install 'ibtfs[protect]'"


def require_codes() -> None:
    """Raise LibraryMissing, which says what to install, unless there is a library for codes."""
    try:
        import zfec  # noqa: F401
    except ImportError as error:
        raise LibraryMissing(_MISSING) from error


def parity_of(blocks: Sequence[bytes], checks: int) -> list[bytes]:
    """*checks* blocks of parity for *blocks*, all of one size.  Raises LibraryMissing."""
    require_codes()
    import zfec

    count = len(blocks)
    encoder = zfec.Encoder(count, count + checks)
    made: list[bytes] = encoder.encode(blocks, list(range(count, count + checks)))
    return made


def restored(blocks: Mapping[int, bytes], count: int, checks: int) -> list[bytes]:
    """The *count* blocks that parity was made of, from any *count* of *blocks*, by their numbers.

    The blocks of parity are numbered from *count* on.  Raises LibraryMissing.
    """
    require_codes()
    import zfec

    numbers = sorted(blocks)[:count]
    decoder = zfec.Decoder(count, count + checks)
    made: list[bytes] = decoder.decode([blocks[number] for number in numbers], numbers)
    return made
