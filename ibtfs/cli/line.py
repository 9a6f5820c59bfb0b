"""Options of every command that takes a repository: the line to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ibtfs.cli.command import option_field, options_of
from ibtfs.cli.words import Speed

if TYPE_CHECKING:
    from ibtfs.store.storage.opening import Place


@dataclass(frozen=True)
class Line:
    """The options that say how a repository is reached, and how fast."""

    limit_upload: int = option_field(
        "--limit-upload", metavar="RATE", type=Speed(), default=0,
        help="Write no more than RATE a second: 500K, 2M; a mere number is KiB.",
    )  # fmt: skip
    limit_download: int = option_field(
        "--limit-download", metavar="RATE", type=Speed(), default=0,
        help="Read no more than RATE a second.",
    )  # fmt: skip

    def place(self, given: bytes) -> Place:
        """What the repository at *given* is opened by."""
        return self.places(given)[0]

    def places(self, *given: bytes) -> list[Place]:
        """The same for several that one command works on; they share the limits."""
        if not (self.limit_upload or self.limit_download):
            return [*given]
        from ibtfs.store.storage.limited import Limits, Rate
        from ibtfs.store.storage.opening import storage_at

        limits = Limits(Rate(self.limit_upload), Rate(self.limit_download))
        return [storage_at(place, limits) for place in given]


network_options = options_of(Line, "line", section="Network")
