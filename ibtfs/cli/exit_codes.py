"""How a command ends: the one table of exit codes, from which help, manual and tests are made.

The errors that stand for one of these carry its number (:mod:`ibtfs.errors`).
"""

from __future__ import annotations

import signal

DONE, FAILURE, USAGE, INCOMPLETE, NO_REPOSITORY, LOCKED, WRONG_KEY = 0, 1, 2, 3, 10, 11, 12
ALARMED = "ibtfs.alarmed"
"""In the context of a command: a repository is not as it was seen before, which is no success."""
INTERRUPTED = 128 + signal.SIGINT
READER_GONE = 128 + signal.SIGPIPE

EXIT_CODES = {
    DONE: "Done",
    FAILURE: "Failed; or check found damage",
    USAGE: "Wrong usage, or the words do not say which point is meant",
    INCOMPLETE: "Done, but files could not be read or written, or points are gone; they were named",
    NO_REPOSITORY: "There is no repository at REPO",
    LOCKED: "The repository is locked",
    WRONG_KEY: "The repository is sealed, and no passphrase or key that opens it was given",
    INTERRUPTED: "Interrupted by Ctrl-C",
    READER_GONE: "Whoever read the output has gone away, as head does in a pipe",
}
