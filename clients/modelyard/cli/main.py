"""Entry point of `modelyard`.

Importing this module loads typer and nothing heavier; a command's own module is imported when it runs.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, Final

import typer
import typer.core
import typer.main

from modelyard.cli.exits import INTERRUPTED, report

# What each command is, for `modelyard --help`; modelyard.cli.commands.<name> holds it as `app`.
COMMANDS: Final = {
    "auto": "From data to a served endpoint in one command.",
    "up": "Keep a server running, for every command and client.",
    "dataset": "Import, check, publish, list, show, examples.",
    "train": "Train a model on a dataset version.",
    "export": "Turn a model version into a bundle for its hardware.",
    "evaluate": "Score an export's bytes.",
    "deploy": "Serve an export behind an endpoint, if the gate says yes.",
    "endpoint": "List, show, delete, events.",
    "predict": "Ask an endpoint about pictures or rows.",
    "model": "List, show.",
    "runs": "List, show, watch, cancel, stop.",
    "doctor": "What is wrong with this machine, and the cure.",
}

HELP: Final = """From a folder of data to a model that is proven, exported for its hardware, and served.

Example: modelyard auto flowers/ --name flowers --max-train-time 10m"""

EPILOG: Final = """Without a running server a command starts one for itself on its data folder (~/.modelyard).
Give --server HOST:PORT, or MODELYARD_SERVER, for another one.

Exit codes: 0 done; 1 a job failed, or something is missing or in the way; 2 wrong usage or a wrong value; 3 the gate said no;
4 no server answers; 130 interrupted."""


class LazyGroup(typer.core.TyperGroup):
    """The commands by name, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"modelyard.cli.commands.{cmd_name}")
        return typer.main.get_command(module.app)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            raise SystemExit(INTERRUPTED) from None


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"modelyard {version('modelyard')}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version and exit."),
) -> None:
    """Holds the help text and --version."""


def _command() -> Any:
    app = typer.Typer(cls=LazyGroup, rich_markup_mode=None, add_completion=False, no_args_is_help=True)
    app.callback(help=HELP, epilog=EPILOG)(_root)
    return typer.main.get_command(app)


def main(arguments: list[str] | None = None) -> None:
    """Runs a command line and exits with its status."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        _command().main(args=given, prog_name="modelyard")
    except Exception as error:
        sys.exit(report(error, debug="--debug" in given, as_json="--json" in given))


if __name__ == "__main__":
    main()
