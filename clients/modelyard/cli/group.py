"""The typer side of `modelyard`: its commands by name, each imported when it is asked for."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Sequence
from typing import Any

import typer
import typer.core
import typer.main

from modelyard.cli.exits import INTERRUPTED, WRONG
from modelyard.cli.main import COMMANDS, OPTIONS, help_text
from modelyard.cli.options import with_plain_values
from modelyard.client.errors import InvalidArgument, ModelyardClientError, Violation


class LazyGroup(typer.core.TyperGroup):
    """The commands by name, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"modelyard.cli.commands.{cmd_name}")
        return with_plain_values(typer.main.get_command(module.app))

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
    names = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(cls=LazyGroup, rich_markup_mode=None, add_completion=False, no_args_is_help=True, context_settings=names)
    app.callback()(_root)
    return typer.main.get_command(app)


def run(arguments: list[str]) -> int:
    """Runs a command line; its status. Wrong words are an InvalidArgument like any other, so that --json tells of them too."""
    from typer._click.exceptions import NoArgsIsHelpError, UsageError  # typer gives no public name for them

    try:
        status = root_command().main(args=arguments, prog_name="modelyard", standalone_mode=False)
    except NoArgsIsHelpError as error:
        error.show()
        return WRONG
    except UsageError as error:
        raise _wrong_usage(error, arguments) from None
    except typer.Abort as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Ctrl-C at a question is no answer to it
            raise KeyboardInterrupt from None
        message = "nothing was done: it was not confirmed; answer y, or give --yes"
        raise ModelyardClientError(message, reason="NOT_CONFIRMED", code="CANCELLED") from None
    return status if isinstance(status, int) else 0


def _wrong_usage(error: Any, arguments: Sequence[str]) -> InvalidArgument:
    """What is wrong with the words of a command line: the option, its value, and what would be right."""
    param = getattr(error, "param", None)
    field = param.opts[0] if param is not None and param.param_type_name == "option" else getattr(param, "metavar", "") or ""
    value = _given(param.opts, arguments) if param is not None and field.startswith("-") else ""
    if (wanted := getattr(error, "option_name", "")) and hasattr(error, "possibilities"):
        message = f"there is no option {wanted!r}{_meant(wanted, error.possibilities or ())}"
    elif value:
        message = f"{field} is {value!r}: {re.sub('^Input', 'it', error.message).partition(', unable')[0]}"
    else:
        message = error.format_message().rstrip(".")
        message = message[:1].lower() + message[1:]
    values = {"value": value} if value else {}
    if error.ctx is not None:
        values["usage"] = f"`{error.ctx.command_path} --help` says what it takes"
    violations = (Violation(field, message),) if field else ()
    return InvalidArgument(message, reason="WRONG_USAGE", values=values, violations=violations)


def _meant(option: str, near: Sequence[str]) -> str:
    """The option that was meant, of those that typer finds near: it compares the dashes too, which makes short ones near."""
    words = {one.lstrip("-"): one for one in near}
    found = difflib.get_close_matches(option.lstrip("-"), words, 1)
    return f"; did you mean {words[found[0]]!r}?" if found else ""


def _given(names: Sequence[str], arguments: Sequence[str]) -> str:
    """The value that an option got."""
    for at, word in enumerate(arguments):
        name, sign, value = word.partition("=")
        if name in names:
            return value if sign else arguments[at + 1] if at + 1 < len(arguments) else ""
    return ""
