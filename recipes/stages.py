"""The command line that the recipes share: a function is a stage, its defaults are its options."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A part of a recipe that is run by its name."""

    run: Callable[..., None]
    """Its docstring's first line is its help."""
    options: dict[str, object]
    """Defaults by name; a type where the user must say."""


def stage(run: Callable[..., None], **options: object) -> Stage:
    """Name a stage and the defaults of its options."""
    return Stage(run, options)


def run_stage(about: str, *stages: Stage) -> None:
    """Run the stage that the command line names."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = parser.add_subparsers(required=True)
    for each in stages:
        first_line = (each.run.__doc__ or "").partition("\n")[0]
        sub = names.add_parser(each.run.__name__, help=first_line, description=first_line)
        for name, default in each.options.items():
            needed = isinstance(default, type)
            sub.add_argument(
                "--" + name.replace("_", "-"),
                type=default if isinstance(default, type) else type(default),
                required=needed,
                default=None if needed else default,
                help="needed" if needed else f"{default}",
            )
        sub.set_defaults(run=each.run)
    chosen = vars(parser.parse_args())
    chosen.pop("run")(**chosen)
