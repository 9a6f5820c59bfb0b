"""The house, as DESIGN.md section 7 draws it: imports go down, and each outside library has a home.

Read from the source by its syntax tree, so imports inside functions count as well.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ibtfs"
MODULES = sorted(PACKAGE.rglob("*.py"))
ORDER = {
    "": ("errors", "format", "sealing", "store", "actions view", "fuse", "toolkit cli", "__main__"),
    "store": (
        "layout cache cache_file chosen_names", "index_cache", "storage", "listed",
        "archives naming point_tags manifest_copies unread_points",
        "lock points damage_notes keyring settling",
        "own_runs newer_keys", "unlocking archive_lists",
        "repository", "sealing point_lists copied_points",
        "accepted pins taking contents absent_points protection",
        "trees returning",
        "leftovers writing removal", "mending",
    ),
    "actions": (
        "observer owners", "source deltas damages alone", "checking",
        "backup restore check compare_live prune stats forget protect keys", "purge repair copy",
    ),
    "fuse": ("options signals errnos process", "fuse2 fuse3"),
}  # fmt: skip
"""The rooms of a package from the lowest to the highest; those of one floor do not know each other.

What is not named may be imported by all rooms of its package, and by nothing below them.
"""

HOMES = {
    "msgpack": {"format.packing"},
    "zstandard": {"format.compression"},
    "librsync": {"format.rsync"},
    "cryptography": {"sealing.primitives"},
    "zfec": {"format.erasure"},
    "pathspec": {"format.patterns"},
    "obstore": {"store.storage.objects.s3"},
    "urllib3": {"store.storage.objects.dav_http"},
    "sqlite3": {"store.writing.catalog"},
    "mfusepy": {"fuse.fuse3."},
    "fuse": {"fuse.fuse2"},
    "click": {"cli."},
    "keyring": {"cli.secrets"},
    "rich": {"cli."},
    "dirtools2": {"toolkit", "toolkit."},
    "blake3": {"toolkit.", "format.", "sealing.", "store.", "actions.", "view."},
}
"""Where an outside library may be imported; a name that ends in a point is a whole folder."""

IMPURE = {"os", "time", "io", "pathlib", "socket", "subprocess", "shutil", "tempfile", "random",
          "secrets"}  # fmt: skip
ON_THE_DISK = {"store.storage.", "store.writing.catalog", "store.cache_file"}
"""Where `ibtfs.store` may look at files by itself: the storages, and the caches of this machine."""

HARMLESS = {"os.urandom", "os.fsdecode", "os.fsencode", "os.getpid", "os.uname", "os.path.normpath"}
"""What may be called of `os` everywhere: none of it looks at a file."""

ROOMS_OF_TESTS = {"promises", "docs", "scripts", "support", "data"}
"""What is in ``tests/`` besides the mirror of the code."""

LONGEST_FUNCTION = 50
LONGEST_MODULE = 350
LONGEST_TEST_MODULE = 700


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def room_of(path: Path) -> str:
    """The package of the first floor that the module at *path* is in, or is."""
    return name_of(path).partition(".")[0]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree_of(path)))


def dotted(node: ast.expr) -> str:
    """*node* as it is written, if it is a name or one after points; else nothing."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


@cache
def imports(path: Path) -> frozenset[str]:
    """The full names of all modules that the module at *path* imports, or takes names from."""
    return frozenset(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module or ""
            if (node.module or "").split(".")[0] == "ibtfs":
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(module: str, places: set[str]) -> bool:
    return any(module == p or (p.endswith(".") and module.startswith(p)) for p in places)


def floor_of(package: str, room: str) -> int:
    """The floor of a room; -1 for one that is not named."""
    floors = [n for n, rooms in enumerate(ORDER[package]) if room in rooms.split()]
    return floors[0] if floors else -1


def climbs(package: str, user: str, used: str) -> bool:
    """Whether *user* imports from a room of *package* that does not lie below its own."""
    prefix = f"{package}." if package else ""
    if not (user.startswith(prefix) and used.startswith(prefix)):
        return False
    mine, other = (name.removeprefix(prefix).split(".")[0] for name in (user, used))
    return mine != other and floor_of(package, mine) <= floor_of(package, other)


def test_imports_go_down() -> None:
    wrong = set()
    for path in MODULES:
        user = name_of(path)
        if "." not in user and user != "__init__":
            assert floor_of("", user) >= 0, f"{user}: which layer is this?"
        used = {name.removeprefix("ibtfs.") for name in imports(path) if name.startswith("ibtfs.")}
        used -= {"__version__"}
        wrong |= {(user, name) for name in used for room in ORDER if climbs(room, user, name)}
    assert wrong == set()


def test_every_room_of_a_layered_package_is_on_a_floor() -> None:
    for package, floors in ORDER.items():
        folder = PACKAGE / package
        rooms = {
            p.stem for p in folder.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()
        }
        assert rooms - {"__init__"} == set(" ".join(floors).split()), package


def test_there_are_no_cycles() -> None:
    known = {f"ibtfs.{name_of(path)}": path for path in MODULES}
    edges = {
        name: {
            used
            for used in imports(path)
            if used in known and used != name and not name.startswith(f"{used}.")
        }
        for name, path in known.items()
    }
    while leaves := {name for name, used in edges.items() if not used}:
        edges = {name: used - leaves for name, used in edges.items() if name not in leaves}
    assert not edges, f"These modules import each other in a circle: {sorted(edges)}"


@pytest.mark.parametrize("library", HOMES)
def test_an_outside_library_has_a_home(library: str) -> None:
    users = {
        name_of(path)
        for path in MODULES
        if library in {name.split(".")[0] for name in imports(path)}
    }
    assert {name for name in users if not inside(name, HOMES[library])} == set()
    if library in {
        "zfec",
        "obstore",
        "urllib3",
        "mfusepy",
        "fuse",
        "msgpack",
        "zstandard",
        "librsync",
        "pathspec",
        "sqlite3",
    }:
        assert len(users) <= 1, users


def test_every_outside_library_is_known() -> None:
    """A new dependency is to be thought about."""
    known = {*HOMES, "ibtfs", *sys.stdlib_module_names}
    used = {name.split(".")[0] for path in MODULES for name in imports(path)}
    assert used - known == set()


def test_the_format_is_pure() -> None:
    packages = {
        (name_of(path), name.split(".")[0])
        for path in MODULES
        if room_of(path) == "format"
        for name in imports(path)
    }
    assert {(module, package) for module, package in packages if package in IMPURE} == set()


def test_modules_and_functions_are_short_and_told() -> None:
    wrong = []
    for path in MODULES:
        if not ast.get_docstring(tree_of(path)):
            wrong.append(f"{path}: no docstring")
        if (lines := len(path.read_text().splitlines())) > LONGEST_MODULE:
            wrong.append(f"{path}: {lines} lines")
        wrong += [f"{path}:{told}" for node in nodes_of(path) for told in improper(node)]
    assert wrong == []


def improper(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        length = (node.end_lineno or 0) - node.lineno + 1
        if length > LONGEST_FUNCTION:
            yield f"{node.lineno}: {node.name} has {length} lines"
    elif isinstance(node, ast.Global):
        yield f"{node.lineno}: global"
    elif isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
        yield f"{node.lineno}: takes all names of {node.module}"


def test_only_the_command_line_talks_and_exits() -> None:
    wrong = []
    for path in MODULES:
        if room_of(path) == "cli":
            continue
        for node in nodes_of(path):
            if not isinstance(node, ast.Call):
                continue
            called = dotted(node.func)
            talks = called in {"print", "sys.exit", "exit", "input", "logging.basicConfig"}
            asks = called in {"os.getenv", "os.environ.get"}
            if talks or (asks and name_of(path) not in {"__main__", "fuse.fuse3.structures"}):
                wrong.append(f"{path}:{node.lineno}: {called}")
    assert wrong == []


def test_the_store_looks_at_files_through_its_storage() -> None:
    outside = {"pathlib", "shutil", "tempfile", "glob", "io", "fcntl"}
    wrong = set()
    for path in MODULES:
        if room_of(path) != "store" or inside(name_of(path), ON_THE_DISK):
            continue
        names = {dotted(n) for n in nodes_of(path) if isinstance(n, (ast.Name, ast.Attribute))}
        functions = {
            name for name in names if re.fullmatch(r"open|os\.(path\.)?(?!path$)[a-z]\w*", name)
        }
        used = imports(path)
        taken = {name for name in used if name.split(".")[0] in outside or name.startswith("os.")}
        wrong |= {(name_of(path), name) for name in (functions - HARMLESS) | taken}
    assert wrong == set()


def test_nothing_above_the_store_asks_for_the_storage() -> None:
    wrong = [
        f"{path}:{node.lineno}: {node.attr}"
        for path in MODULES
        if room_of(path) != "store"
        for node in nodes_of(path)
        if isinstance(node, ast.Attribute) and node.attr in {"storage", "_storage"}
    ]
    assert wrong == []


# The tests


TESTS = ROOT / "tests"
TEST_MODULES = sorted(TESTS.rglob("*.py"))


FOLDERS = ("archives", "bundles", "points", "tags", "locks", "damaged")


def test_only_the_layout_spells_names_of_objects() -> None:
    wrong = []
    for path in MODULES:
        if name_of(path) == "store.layout":
            continue
        docs = {
            id(node.value)
            for node in nodes_of(path)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in nodes_of(path):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                spelt = id(node) not in docs and any(f"{name}/" in node.value for name in FOLDERS)
                wrong += [f"{path}:{node.lineno}: {node.value!r}"] if spelt else []
    assert wrong == []


def test_the_tests_mirror_the_code() -> None:
    mirrored = {path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("__init__.py")}
    for path in TEST_MODULES:
        room = path.parent.relative_to(TESTS)
        mirrors = room in mirrored or room.parts[0] in ROOMS_OF_TESTS
        assert mirrors, f"tests/{room} mirrors no room of ibtfs"
    assert [path.name for path in TESTS.glob("test_*.py")] == [Path(__file__).name]


def test_modules_of_tests_are_told_and_not_long() -> None:
    untold = [path for path in TEST_MODULES if not ast.get_docstring(tree_of(path))]
    assert untold == [], "What do they hold?"
    lengths = {path: len(path.read_text().splitlines()) for path in TEST_MODULES}
    assert {path: n for path, n in lengths.items() if n > LONGEST_TEST_MODULE} == {}


# What can be imported without what


def run(code: str, *hidden: str) -> None:
    """Run *code* in a Python of its own, in which the modules *hidden* cannot be imported."""
    block = f"import sys\nfor name in {hidden!r}: sys.modules[name] = None\n"
    result = subprocess.run(
        [sys.executable, "-c", block + code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


FUSE = ("mfusepy", "fuse")
SCREEN = ("click", "rich")
BACKUP_AND_RESTORE = """
import ctypes, ctypes.util, os, tempfile
ctypes.util.find_library = lambda name: None
ctypes.CDLL = ctypes.cdll.LoadLibrary = None
from ibtfs.actions.backup.run import BackupOptions, backup
from ibtfs.actions.check import check
from ibtfs.actions.observer import Observer
from ibtfs.actions.restore.run import RestoreOptions, restore
from ibtfs.store.repository import Repository
with tempfile.TemporaryDirectory() as place:
    os.mkdir(place + "/source")
    repository = Repository.create(os.fsencode(place + "/repository"), bytes(16))
    for size in (100, 70_000, 6 << 20):
        for number in range(3):
            with open(place + f"/source/{size}", "wb") as file:
                data = os.urandom(size // 2)
                file.write(data + b"%d" % number + data)
            source = os.fsencode(place + "/source")
            point = backup(repository, source, BackupOptions("h"), Observer()).point
    restore(repository, point, [], os.fsencode(place + "/back"), RestoreOptions(), Observer())
    for name in os.listdir(place + "/source"):
        with open(place + "/source/" + name, "rb") as one:
            with open(place + "/back/" + name, "rb") as other:
                assert one.read() == other.read()
    assert not check(repository, read_data=True, observer=Observer()).damages
"""


def test_a_backup_needs_neither_fuse_nor_librsync_nor_a_screen() -> None:
    run(BACKUP_AND_RESTORE, "librsync", *FUSE, *SCREEN)


def test_restore_and_the_mounted_tree_need_no_librsync() -> None:
    run("import ibtfs.actions.restore.run, ibtfs.view.tree, ibtfs.fuse.process", "librsync", *FUSE)


EACH_ALONE = """
import os, sys
for module in {modules!r}:
    if os.fork() == 0:
        __import__("ibtfs." + module)
        wrong = [name for name in sys.modules if "ibtfs.store" in name]
        os._exit(0 if not wrong else print(module, wrong, file=sys.stderr) or 1)
    assert os.wait()[1] == 0, module
"""


def test_the_format_works_without_a_disk() -> None:
    modules = [name_of(p) for p in MODULES if room_of(p) == "format"]
    hidden = ("sqlite3", "shutil", "tempfile", "fcntl", *FUSE, *SCREEN)
    run(EACH_ALONE.format(modules=modules), *hidden)


def test_the_package_itself_is_light() -> None:
    heavy = ("msgpack", "zstandard", "blake3", "librsync", "pathspec", *FUSE, *SCREEN)
    run("import ibtfs", *heavy)
