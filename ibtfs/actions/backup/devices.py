"""The numbers of a source's devices: by the paths where these begin, the same in each run."""

from __future__ import annotations

from collections.abc import Sequence


class Devices:
    """Numbers for paths; those that the last point had keep theirs.  Number 0 is the root's."""

    def __init__(self, paths: Sequence[bytes]) -> None:
        self._paths = list(paths)
        self._met = {b""}
        self._all_kept = False

    @property
    def paths(self) -> tuple[bytes, ...]:
        """The paths by number; but for the first an empty one is a number that is free."""
        return tuple(self._paths)

    def number(self, path: bytes) -> int:
        """The number of the device that begins at *path*."""
        self._met.add(path)
        if path in self._paths:
            return self._paths.index(path)
        if b"" in self._paths[1:]:
            number = self._paths.index(b"", 1)
            self._paths[number] = path
            return number
        self._paths.append(path)
        return len(self._paths) - 1

    def keep_all(self) -> None:
        """Free no numbers: what was not entered may be on any of the devices."""
        self._all_kept = True

    def free_others(self) -> None:
        """Free the numbers of paths that were not met: each container has mounts of its own."""
        if self._all_kept:
            return
        self._paths = [path if path in self._met else b"" for path in self._paths]
        while len(self._paths) > 1 and not self._paths[-1]:
            self._paths.pop()
