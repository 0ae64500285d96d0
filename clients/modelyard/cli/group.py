"""The typer side of `modelyard`: its commands by name, each imported when it is asked for."""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import Any

import typer
import typer.core
import typer.main

from modelyard.cli.exits import INTERRUPTED
from modelyard.cli.main import COMMANDS, OPTIONS, help_text


class LazyGroup(typer.core.TyperGroup):
    """The commands by name, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"modelyard.cli.commands.{cmd_name}")
        return typer.main.get_command(module.app)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            ctx.fail(f"there is no command {args[0]!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def get_help(self, ctx: Any) -> str:
        return help_text()

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            raise SystemExit(INTERRUPTED) from None


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"modelyard {version('modelyard')}")
        except PackageNotFoundError:
            print("modelyard, run from its source")
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help=OPTIONS["--version"]),
) -> None:
    """Holds the help text and --version."""


def root_command() -> Any:
    """The command that holds all others."""
    app = typer.Typer(cls=LazyGroup, rich_markup_mode=None, add_completion=False, no_args_is_help=True)
    app.callback()(_root)
    return typer.main.get_command(app)
