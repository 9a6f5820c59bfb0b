"""What commands are made of: help in sections with examples, and the options that many share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, fields
from functools import partial, wraps
from typing import Any, TypeVar

import click

from ibtfs.cli.words import RepositoryPlace

Function = TypeVar("Function", bound=Callable[..., Any])
OUTPUT = "Output"


class Option(click.Option):
    """An option that is listed under the heading *section* of its command's help."""

    def __init__(self, *args: Any, section: str = OUTPUT, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.section = section


class Command(click.Command):
    """A command whose help has sections of options, and ends with *examples*, line by line."""

    def __init__(self, *args: Any, examples: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.examples = examples

    def sections(self, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
        """The options and their help, by section, in order of definition, and --help last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                sections.setdefault(getattr(parameter, "section", OUTPUT), []).append(record)
        sections[OUTPUT] = sections.pop(OUTPUT, [])
        return sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options by section."""
        for name, records in self.sections(ctx).items():
            with formatter.section(name):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are."""
        super().format_epilog(ctx, formatter)
        lines = "".join(f"  {line.strip()}\n" for line in self.examples.strip().splitlines())
        formatter.write(f"\nExamples:\n{lines}")


option = partial(click.option, cls=Option)

repository_argument = click.argument("repository", metavar="REPO", type=RepositoryPlace())
json_option = option(
    "--json", "as_json", is_flag=True, help="Print one JSON object, also when it fails."
)
quiet_option = option("-q", "--quiet", is_flag=True, help="Print nothing but problems.")
verbose_option = option("-v", "--verbose", is_flag=True, help="Name each file as it is handled.")


def output_options(function: Function) -> Function:
    """Add --quiet, --verbose and --json."""
    decorated: Function = quiet_option(verbose_option(json_option(function)))
    return decorated


def option_field(*words: str, **attributes: Any) -> Any:
    """A field of a dataclass of options: the option that gives it, but for its name."""
    return field(metadata={"words": words, "attributes": attributes})


def options_of(kind: type[Any], name: str, section: str = OUTPUT) -> Callable[[Function], Function]:
    """A decorator: the options of the fields of *kind*, a dataclass, listed under *section*.

    The command gets them as one object of *kind*, its argument *name*.
    """

    def decorate(function: Function) -> Function:
        @wraps(function)
        def command(**given: Any) -> Any:
            values = {one.name: given.pop(one.name) for one in fields(kind)}
            return function(**{name: kind(**values)}, **given)

        decorated: Any = command
        for one in reversed(fields(kind)):
            words, attributes = one.metadata["words"], one.metadata["attributes"]
            decorated = option(*words, one.name, section=section, **attributes)(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate
