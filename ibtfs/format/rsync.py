"""Signatures and deltas by librsync; the only importer of it.

python-librsync loads the C library and brings its buffer structure, error class and constants,
which are used here.  Its prototypes are those of librsync before 1.0, so every function is
declared anew (as a separate function object: the package's own stay as they are).  Nothing is
loaded before the first call, and reading a repository needs none of this: what a delta means is
``format/rdelta``.

Algorithm: rsync's (Tridgell 1998) with librsync's RabinKarp rolling sum and BLAKE2 strong sum,
magic 0x72730147.

Threads: all functions may be called from any thread and release the interpreter lock while the C
library works, except on a few KB at once.  A ``Signature`` may be shared by threads for matching
(librsync only reads it; its statistics alone race), not closed while another uses it.  A
``SignatureWriter`` belongs to one thread at a time.
"""

from __future__ import annotations

import functools
from typing import Any

from ibtfs.errors import FormatDamaged, IbtfsError, LibraryMissing
from ibtfs.format.rdelta import (
    LITERAL,
    Data,
    Match,
    common_prefix,
    common_suffix,
    parse_delta,
    refine,
)

BLAKE2_SIGNATURE_MAGIC = 0x72730147  # RS_RK_BLAKE2_SIG_MAGIC
MIN_STRONG_SIZE = 16
MAX_STRONG_SIZE = 32

_HEADER_BYTES = 12  # of a signature: magic, block size, strong size
_WEAK_BYTES = 4
_INPUT_STEP = 1 << 20  # librsync copies what it has not scanned yet, so it gets no more at once
_OUTPUT_STEP = 1 << 16
_LEAST = 8  # bytes: about what a range takes in a map
_SMALL = 1 << 14  # so many bytes are done before another thread has the interpreter
_MEMORY_ERROR = 102  # RS_MEM_ERROR
_INTERNAL_ERROR = 107  # RS_INTERNAL_ERROR
_DAMAGE = frozenset((103, 104, 105, 106, 108))  # ended early, bad magic, unknown, corrupt, value


def make_signature(data: Data, *, block_size: int, strong_size: int = MIN_STRONG_SIZE) -> bytes:
    """Return the signature of *data* as ``rdiff signature`` writes it.

    *block_size* and *strong_size* are in bytes.  Raises ValueError for sizes out of range and
    LibraryMissing.
    """
    with SignatureWriter(block_size, strong_size) as writer:
        return writer.update(data) + writer.finish()


def fine_matches(base: Data, new: Data, *, block_size: int) -> list[Match]:
    """Return *new* as matches with *base*, for contents small enough to have both in memory.

    What both begin and end with is found by comparing; librsync sees only what is between, in
    blocks of *block_size* bytes (against all of *base* where *new* has much more there), and its
    matches are grown byte by byte.  Literals are a quarter fewer than librsync's alone and the
    time is less.  Raises ValueError for a *block_size* out of range and LibraryMissing.
    """
    if block_size < 1:
        raise ValueError(f"A block of {block_size} bytes is impossible")
    base, new = bytes(base), bytes(new)
    start = _worth(common_prefix(base, new), len(new))
    base_end = len(base) - _worth(common_suffix(base[start:], new[start:]), len(new) - start)
    new_end = len(new) - (len(base) - base_end)
    matches = [(0, 0, start)] if start else []
    window = (start, base_end) if 2 * (base_end - start) >= new_end - start else (0, len(base))
    between = _block_matches(base[slice(*window)], new[start:new_end], block_size)
    for base_offset, new_offset, size in between:
        at = base_offset if base_offset == LITERAL else base_offset + window[0]
        matches.append((at, new_offset + start, size))
    if new_end < len(new):
        matches.append((base_end, new_end, len(new) - new_end))
    return refine(matches, base, new)


def _worth(size: int, whole: int) -> int:
    """*size*, or 0 if a copy of so few bytes, not the *whole*, costs more than the bytes."""
    return size if size >= min(_LEAST, whole) else 0


class SignatureWriter:
    """Makes a signature of contents that come in pieces, in bounded memory.

    *block_size* and *strong_size* in bytes.  ``finish`` releases what librsync holds, ``close``
    does so without a result, both any number of times.  One thread at a time.
    Raises ValueError for sizes out of range and LibraryMissing.
    """

    def __init__(self, block_size: int, strong_size: int = MIN_STRONG_SIZE) -> None:
        if not 1 <= block_size < 1 << 31:
            raise ValueError(f"A block of {block_size} bytes is impossible")
        if not MIN_STRONG_SIZE <= strong_size <= MAX_STRONG_SIZE:
            raise ValueError(f"A strong sum of {strong_size} bytes is impossible")
        self._block_size = block_size
        self._block_sum = _WEAK_BYTES + strong_size
        self._job: _Job | None = _Job(
            _library().sig_begin(block_size, strong_size, BLAKE2_SIGNATURE_MAGIC)
        )

    def update(self, data: Data) -> bytes:
        """Take the next *data*, return the bytes of the signature that are complete by now."""
        blocks = len(data) // self._block_size + 1
        return self._open_job().feed(data, room=_HEADER_BYTES + blocks * self._block_sum)

    def finish(self) -> bytes:
        """Return the rest of the signature.  Raises ValueError after ``finish`` or ``close``."""
        with self._open_job() as job:
            self._job = None
            return job.feed(b"", last=True, room=_HEADER_BYTES + self._block_sum)

    def close(self) -> None:
        """Release what librsync holds."""
        job, self._job = self._job, None
        if job is not None:
            job.close()

    def _open_job(self) -> _Job:
        if self._job is None:
            raise ValueError("Signature was finished or closed before")
        return self._job

    def __enter__(self) -> SignatureWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Signature:
    """A signature loaded into librsync, ready for any number of deltas against its base.

    Takes librsync's about 40 bytes of memory a block until ``close``, which may be called any
    number of times; used as a context manager it closes itself.  Threads may match with one
    signature at the same time, none may close it meanwhile.
    Raises FormatDamaged if *signature* is none, or cut short, and LibraryMissing.
    """

    def __init__(self, signature: Data) -> None:
        self._sums: int | None = _load_sums(signature)

    def matches(self, data: Data) -> list[Match]:
        """Return *data* as matches with the base (what a match is: ``format/rdelta``)."""
        return parse_delta(self.delta(data))

    def delta(self, data: Data) -> bytes:
        """Return the delta from the base to *data* as ``rdiff delta`` writes it."""
        if self._sums is None:
            raise ValueError("Signature was closed before")
        return _delta(self._sums, data)

    def close(self) -> None:
        """Release what librsync holds."""
        sums, self._sums = self._sums, None
        if sums is not None:
            _library().free_sumset(sums)

    def __enter__(self) -> Signature:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Librsync:
    """librsync's functions with the prototypes of librsync 1.0 to 2.3, and what calls need.

    Indexing a loaded library makes a new function object each time, so nothing that belongs to
    python-librsync changes.  librsync's own messages on standard error are turned off: every
    failure is raised.
    """

    def __init__(self) -> None:
        import ctypes

        package = _import_package()
        size, pointer, number = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
        self._loaded: Any = package._librsync
        self._held: Any = ctypes.PyDLL(self._loaded._name, handle=self._loaded._handle)
        self._error: Any = package.LibrsyncError
        self.done: int = package.RS_DONE
        self.blocked: int = package.RS_BLOCKED
        self.buffers: Any = package.Buffer
        self.pointer: Any = pointer
        self.byref: Any = ctypes.byref
        self.addressof: Any = ctypes.addressof
        self.byte: Any = ctypes.c_char
        self.sig_begin = self._quick("rs_sig_begin", pointer, size, size, number)
        self.loadsig_begin = self._quick("rs_loadsig_begin", pointer, pointer)
        self.build_hash_table = self._declare("rs_build_hash_table", number, pointer)
        self.build_small_table = self._quick("rs_build_hash_table", number, pointer)
        self.free_sumset = self._quick("rs_free_sumset", None, pointer)
        self.delta_begin = self._quick("rs_delta_begin", pointer, pointer)
        self.job_iter = self._declare("rs_job_iter", number, pointer, pointer)
        self.small_iter = self._quick("rs_job_iter", number, pointer, pointer)
        self.job_free = self._quick("rs_job_free", number, pointer)
        self._declare("rs_trace_set_level", None, number)(package.syslog.LOG_EMERG)
        self.get_buffer: Any = ctypes.pythonapi["PyObject_GetBuffer"]
        self.get_buffer.argtypes = (ctypes.py_object, pointer, number)
        self.release_buffer: Any = ctypes.pythonapi["PyBuffer_Release"]
        self.release_buffer.argtypes, self.release_buffer.restype = (pointer,), None
        self.py_buffer: Any = pointer * 16  # Py_buffer takes 80 bytes, the address comes first

    def _quick(self, name: str, result: Any, *arguments: Any) -> Any:
        """A function that takes microseconds: it keeps the interpreter lock, for another thread
        would take it in the meantime and keep it for much longer."""
        function = self._held[name]
        function.restype, function.argtypes = result, arguments
        return function

    def _declare(self, name: str, result: Any, *arguments: Any) -> Any:
        function = self._loaded[name]
        function.restype, function.argtypes = result, arguments
        return function

    def failure(self, result: int) -> Exception:
        """Return the error that *result*, a code of librsync's, stands for."""
        cause = self._error(result)
        said = cause.args[0].decode("ascii", "replace")
        if result == _MEMORY_ERROR:
            return MemoryError(f"librsync: {said}")
        kind = FormatDamaged if result in _DAMAGE else IbtfsError
        error = kind(f"librsync: {said} (code {result})")
        error.__cause__ = cause
        return error


class _Job:
    """One job of librsync's, freed exactly once."""

    def __init__(self, job: int | None) -> None:
        if not job:
            raise MemoryError("librsync could not begin a job")
        self._job: int | None = job

    def feed(self, data: Data, *, room: int, last: bool = False) -> bytes:
        """Give all of *data* to the job and return what it wrote, *room* bytes at a time."""
        library = _library()
        if isinstance(data, bytes):
            return self._run(library, data, len(data), room, last)
        pinned = library.py_buffer()
        library.get_buffer(data, pinned, 0)  # PyBUF_SIMPLE; raises BufferError
        try:
            return self._run(library, pinned[0], memoryview(data).nbytes, room, last)
        finally:
            library.release_buffer(pinned)

    def _run(
        self, library: _Librsync, source: bytes | int | None, size: int, room: int, last: bool
    ) -> bytes:
        buffers = library.buffers()
        buffers.next_in = source  # librsync moves it on
        output = bytearray(room)
        address = library.addressof(library.byte.from_buffer(output))
        pieces = []
        iterate = library.small_iter if size <= _SMALL else library.job_iter
        while True:
            if not buffers.avail_in:
                buffers.avail_in = min(size, _INPUT_STEP)
                size -= buffers.avail_in
                buffers.eof_in = last and not size
            buffers.next_out, buffers.avail_out = address, room
            result = iterate(self._job, library.byref(buffers))
            if buffers.avail_out < room:
                pieces.append(bytes(output[: room - buffers.avail_out]))
            if result == library.done:
                return b"".join(pieces)
            if result != library.blocked:
                raise library.failure(result)
            if buffers.avail_out and not size and not buffers.avail_in:
                if last:
                    raise library.failure(_INTERNAL_ERROR)
                return b"".join(pieces)

    def close(self) -> None:
        """Free the job."""
        job, self._job = self._job, None
        if job is not None:
            _library().job_free(job)

    def __enter__(self) -> _Job:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _block_matches(base: bytes, new: bytes, block_size: int) -> list[Match]:
    """Return librsync's matches; too little data for a whole block is a literal unseen."""
    if min(len(base), len(new)) < block_size:
        return [(LITERAL, 0, len(new))] if new else []
    sums = _load_sums(make_signature(base, block_size=block_size))
    try:
        return parse_delta(_delta(sums, new))
    finally:
        _library().free_sumset(sums)


def _load_sums(signature: Data) -> int:
    """Return the address of what librsync makes of *signature*; the caller frees it."""
    library = _library()
    sums = library.pointer()
    try:
        with _Job(library.loadsig_begin(library.byref(sums))) as job:
            job.feed(signature, last=True, room=1)
        build = library.build_small_table if len(signature) <= _SMALL else library.build_hash_table
        result = build(sums)
        if result != library.done:
            raise library.failure(result)
        return int(sums.value or 0)
    except BaseException:
        if sums.value:
            library.free_sumset(sums)
        raise


def _delta(sums: int, data: Data) -> bytes:
    with _Job(_library().delta_begin(sums)) as job:
        return job.feed(data, last=True, room=min(len(data) + 64, _OUTPUT_STEP))


def _import_package() -> Any:
    try:
        import librsync  # type: ignore[import-untyped]
    except (ImportError, NotImplementedError, OSError, AttributeError) as error:
        raise LibraryMissing(
            "Making deltas needs librsync: install the Debian package librsync2 and the "
            f"Python package python-librsync ({error})"
        ) from error
    return librsync


@functools.cache
def _library() -> _Librsync:
    """Return librsync, loaded at the first call (about 25 ms, most of it for subprocess)."""
    return _Librsync()
