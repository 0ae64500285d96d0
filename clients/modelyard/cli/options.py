"""The options every command has, and the decorator that adds them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import typer
import typer.core

Server = Annotated[
    str,
    typer.Option(
        "--server", metavar="HOST:PORT", envvar="MODELYARD_SERVER", help="Server to use, instead of one for this command."
    ),
]
Token = Annotated[
    str,
    typer.Option(
        "--token",
        metavar="TOKEN",
        envvar="MODELYARD_TOKEN",
        show_envvar=True,
        help="Who you are, to the server. Not needed for your own.",
    ),
]
Ca = Annotated[
    Path | None,
    typer.Option("--ca", metavar="FILE", envvar="MODELYARD_CA", help="PEM file with the authority of the server's certificate."),
]
Cert = Annotated[
    Path | None,
    typer.Option("--cert", metavar="FILE", envvar="MODELYARD_CERTIFICATE", help="PEM file with your certificate (mutual TLS)."),
]
Key = Annotated[
    Path | None, typer.Option("--cert-key", metavar="FILE", envvar="MODELYARD_KEY", help="PEM file with your certificate's key.")
]
DataDir = Annotated[
    Path,
    typer.Option("--data-dir", metavar="FOLDER", envvar="MODELYARD_DATA_DIR", help="Where Modelyard keeps its data."),
]
Project = Annotated[str, typer.Option("--project", envvar="MODELYARD_PROJECT", help="Project that short names belong to.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object; everything else goes to stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the details of an error and the server's log.")]

Flavor = Annotated[str, typer.Option("--instance-flavor", help="Size of machine to run on, see `modelyard flavors`.")]

DEFAULT_DATA_DIR: Final = Path("~/.modelyard")


@dataclass(frozen=True)
class Common:
    """What the shared options say."""

    server: str
    data_dir: Path
    project: str
    json: bool
    debug: bool
    token: str = field(default="", repr=False)
    ca: Path | None = None
    cert: Path | None = None
    cert_key: Path | None = None


def with_common(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the shared options to a command, whose first parameter gets them as a Common."""
    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in list(inspect.signature(command).parameters.values())[1:]
    ]
    shared = [
        _option("server", Server, ""),
        _option("data_dir", DataDir, DEFAULT_DATA_DIR),
        _option("project", Project, "default"),
        _option("json", Json, False),
        _option("debug", Debug, False),
        _option("token", Token, ""),
        _option("ca", Ca, None),
        _option("cert", Cert, None),
        _option("cert_key", Key, None),
    ]

    def run(**values: Any) -> None:
        given = {parameter.name: values.pop(parameter.name) for parameter in shared}
        given["data_dir"] = given["data_dir"].expanduser()
        command(Common(**given), **values)

    everything = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own, *shared)]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in everything}
    return run


class Group(typer.core.TyperGroup):
    """A command made of commands, whose list tells of each in a whole sentence."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return with_plain_values(super().get_command(ctx, cmd_name))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """As typer's, which cuts sentences off at the edge of the terminal."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, _first_sentence(one.help or "")) for name, one in found if one is not None and not one.hidden]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", " ".join(text.partition("\n\n")[0].split()), maxsplit=1)[0]


# What stands for a value in --help, by what typer would say of it: `<list[str]>` is a word of Python's.
_VALUES: Final = {
    "str": "TEXT",
    "list[str]": "TEXT",
    "int": "NUMBER",
    "int range": "NUMBER",
    "float": "NUMBER",
    "float range": "NUMBER",
}


def with_plain_values(command: Any) -> Any:
    """A command whose --help says what its values are in words."""
    for one in getattr(command, "params", ()):
        if one.param_type_name == "argument":
            one.display_type_rich = lambda ctx: None
        elif one.metavar is None and not one.is_flag:
            one.metavar = _VALUES.get(one.display_type(None).strip("<>"), "FILE")
    return command


def new_app(help: str = "") -> typer.Typer:
    """An app in our style: plain help texts, no completion options."""
    return typer.Typer(
        cls=Group, help=help, rich_markup_mode=None, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False
    )


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
