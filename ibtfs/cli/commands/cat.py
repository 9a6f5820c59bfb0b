"""``ibtfs cat``."""

from __future__ import annotations

import sys

import click

from ibtfs.cli.command import Command, repository_argument
from ibtfs.cli.line import Line, line_options
from ibtfs.cli.points import PATH_HELP, POINT_HELP, chosen_point
from ibtfs.cli.words import StoredPath

EXAMPLES = """
    ibtfs cat /media/disk/backups latest letters/draft.txt
    ibtfs cat /media/disk/backups '3 days ago' /home/me/documents/db.sqlite > old.sqlite
"""
HELP = f"""Write a file of a backup point to standard output.

{POINT_HELP}

{PATH_HELP} The digest is checked: the exit code is 0 only if every byte is as it was."""


@click.command("cat", cls=Command, examples=EXAMPLES, help=HELP)
@repository_argument
@click.argument("words", metavar="POINT")
@click.argument("path", type=StoredPath())
@line_options
def command(*, repository: bytes, words: str, path: bytes, line: Line) -> int:
    """Write a file of a backup point to standard output."""
    from ibtfs.errors import IntegrityError
    from ibtfs.store.naming import relative_path
    from ibtfs.store.trees.paths import content_pieces, find_entry, located

    repo = line.open(repository)
    point = chosen_point(repo, words)
    inside = relative_path(point, path)
    entry = find_entry(repo, point, inside)
    try:
        for piece in content_pieces(repo, entry):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    except IntegrityError as error:
        raise located(error, f"point {point.id}", inside) from error
    return 0
