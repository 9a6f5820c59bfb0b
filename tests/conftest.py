"""What tests of whole repositories share: a folder in memory, a checked repository, backups of it.

`check` runs over every repository at the end of its test, unless the test is marked `damaged`.
"""

from __future__ import annotations

import compileall
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.support")  # before it is imported

import ibtfs  # noqa: E402
from ibtfs.actions.backup.run import BackupResult  # noqa: E402
from ibtfs.store.repository import Repository  # noqa: E402
from tests.support import CHECKOUT  # noqa: E402
from tests.support.repositories import Backup, back_up, create, damages  # noqa: E402
from tests.support.spreading import scheduling  # noqa: E402

# a machine that has much to do is slow, and nothing is wrong
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

SLOW = (
    "promises/test_histories", "promises/test_large", "promises/test_damage",
    "promises/test_durability", "store/contents/test_reader", "actions/restore/test_links",
    "fuse/test_adapters",
)  # fmt: skip
"""Modules whose tests come first: at the end others would have nothing to do beside a long one."""

IN_MEMORY = (
    "actions/copy", "actions/deltas", "actions/forget", "actions/prune", "actions/purge",
    "actions/repair", "actions/stats", "actions/test_check", "cli/",
    "promises/test_append_only", "promises/test_forgeries", "promises/test_hostile_machines",
    "promises/test_index_copies", "promises/test_later_generations",
    "promises/test_lies_in_archives", "promises/test_lost_locks", "promises/test_newer_keys",
    "promises/test_partly_damaged", "promises/test_remote", "promises/test_removal",
    "promises/test_s3", "promises/test_sealed", "promises/test_taken_over", "promises/test_trust",
    "promises/test_write_only", "sealing/", "store/contents", "store/mending", "store/protection",
    "store/removal", "store/storage", "store/test_", "store/trees", "store/writing", "view/",
)  # fmt: skip
"""What is not about the disk: thousands of syncs would be waited for."""

ON_THE_DISK = ("cli/commands/test_mount",)
"""Of these what mounts in a namespace of its own, where other devices hide the memory."""


def name_of(path: Path) -> str:
    """The name of a module of tests, as in SLOW."""
    return path.relative_to(Path(__file__).parent).with_suffix("").as_posix()


def pytest_configure(config: pytest.Config) -> None:
    gc.set_threshold(100_000, 50, 1000)  # as the command has it
    # in the background a shell ignores it, and so would the commands that tests interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "damaged: the repository of this test is damaged on purpose, do not check it"
    )
    if not hasattr(config, "workerinput"):
        # else each of the many processes would compile it anew where Python is to write no caches
        compileall.compile_dir(ibtfs.__path__[0], quiet=2, optimize=[0, 1])
        for folder in ("scripts", "tests/support"):
            compileall.compile_dir(CHECKOUT / folder, quiet=2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        name = name_of(item.path)
        return SLOW.index(name) if name in SLOW else len(SLOW)

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    if config.getvalue("dist") != "loadgroup":
        return None
    return scheduling(config, log)


@pytest.fixture
def tmp_path(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder for a test: on the disk, or in memory in rooms that are IN_MEMORY."""
    name = name_of(request.path)
    if name.startswith(IN_MEMORY) and not name.startswith(ON_THE_DISK):
        yield from in_memory(tmp_path)
    else:
        yield tmp_path


@pytest.fixture
def fast_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one, for what would wait for the disk too often."""
    yield from in_memory(tmp_path)


def in_memory(otherwise: Path) -> Iterator[Path]:
    """A folder in memory, or *otherwise* if there is no room; it is removed again."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < 2 << 30:
        yield otherwise
        return
    path = Path(tempfile.mkdtemp(prefix="ibtfs-", dir=memory))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture
def repository(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Repository]:
    """A new repository; checked, with its data, when the test is done."""
    made = create(tmp_path / "repository")
    yield made
    if request.node.get_closest_marker("damaged") is None:
        assert damages(made) == []


@pytest.fixture
def backup_of(repository: Repository) -> Backup:
    """A function that backs up a source into `repository`; options as of BackupOptions."""

    def run(source: Path | bytes, **options: Any) -> BackupResult:
        return back_up(repository, source, **options)

    return run


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder that everybody may reach."""
    folder = tmp_path / "place"
    folder.mkdir()
    for parent in (folder, *folder.parents):
        if parent != Path("/tmp") and parent.is_relative_to("/tmp"):
            parent.chmod(0o755)
    return folder
