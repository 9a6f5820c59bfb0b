"""Options of every command that takes a repository: the line to it, and who is at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ibtfs.cli.command import option_field, options_of
from ibtfs.cli.words import Speed
from ibtfs.errors import UsageError

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
    endpoint: str = option_field(
        "--endpoint", metavar="URL", default="",
        help="The server of an address s3://BUCKET that names none itself.",
    )  # fmt: skip

    def place(self, given: bytes) -> Place:
        """What the repository at *given* is opened by.  Raises UsageError."""
        return self.places(given)[0]

    def places(self, *given: bytes) -> list[Place]:
        """The same for several that one command works on; they share the limits."""
        found = self._at_endpoint(given) if self.endpoint else given
        if not (self.limit_upload or self.limit_download):
            return [*found]
        from ibtfs.store.storage.limited import Limits, Rate
        from ibtfs.store.storage.opening import storage_at

        limits = Limits(Rate(self.limit_upload), Rate(self.limit_download))
        return [storage_at(place, limits) for place in found]

    def _at_endpoint(self, given: Sequence[bytes]) -> Sequence[bytes]:
        """Those of *given* that are of S3 with the endpoint, if they name none; and the others."""
        from ibtfs.store.storage.address import at_endpoint

        found = [at_endpoint(place, self.endpoint) for place in given]
        if found == [*given]:
            raise UsageError("--endpoint is for an address s3://BUCKET that names none itself")
        return found


network_options = options_of(Line, "line", section="Network")
