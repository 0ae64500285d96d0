"""Entry point of `modelyard`.

Importing this module loads nothing but the error classes: `modelyard --help` is answered at once. typer is imported for
everything else, and a command's own module when that command runs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import textwrap
from typing import Final

from modelyard.cli.exits import FAILED, INTERRUPTED, report

# What each command is, for `modelyard --help`; modelyard.cli.commands.<name> holds it as `app`.
COMMANDS: Final = {
    "auto": "From data to a served endpoint in one command.",
    "up": "Keep a server running, for every command and client.",
    "console": "Open the console in a browser, of your own server or of another.",
    "dataset": "Data: import, check, publish, edit, compare, export.",
    "annotate": "Let people label examples, and publish what they agree on.",
    "train": "Train a model on a dataset version.",
    "select": "Choose a model within a training time: candidates compete.",
    "advise": "What became of a training, and what to try next; --auto tries it.",
    "recipes": "What can be trained: list, show, preview.",
    "export": "Turn a model version into a bundle for its hardware, and judge it.",
    "evaluate": "Score an export's bytes.",
    "deploy": "Serve an export behind an endpoint, if the gate says yes.",
    "passport": "Show or verify the signed record of an artifact.",
    "endpoint": "What is served: traffic, labels, shadow, rollback, history, figures.",
    "predict": "Ask an endpoint about pictures, sounds, series or rows.",
    "watch": "Endpoints scored on newly labelled examples: add, list, show, run, delete.",
    "model": "What was trained: list, show, lineage, import.",
    "target": "Hardware that models are made for: list, create, delete.",
    "logs": "What the workers of a job wrote.",
    "flavors": "Sizes of machine that jobs may run on.",
    "runs": "Runs and trainings: list, show, watch, stop, compare, save.",
    "report": "Write a run as one page: data, settings, curves, scores, examples, verdict.",
    "token": "Tokens that are good for asking one endpoint: create, list, revoke.",
    "usage": "What the project uses of its quotas, and who you are.",
    "audit": "Who did what, and what was refused.",
    "device": "Devices outside the cluster: enrol, list, show, label, revoke.",
    "rollout": "Bring versions to devices, in stages, and take them back.",
    "doctor": "What is wrong with this machine or its server, and the cure.",
    "completion": "Let a shell complete commands, options and names.",
}

HELP: Final = """From a folder of data to a model that is proven, exported for its hardware, and served.

Example: modelyard auto flowers/ --name flowers --max-train-time 10m"""

EPILOG: Final = """Without a running server a command starts one for itself on its data folder (~/.modelyard).
Give --server HOST:PORT, or MODELYARD_SERVER, for another one.

Exit codes: 0 done; 1 a job failed, or something is missing or in the way; 2 wrong usage or a wrong value; 3 the gate said no;
4 no server answers; 130 interrupted."""


OPTIONS: Final = {"--version": "Print the version and exit.", "-h, --help": "Show this message and exit."}


def help_text() -> str:
    """What `modelyard --help` prints."""
    width = max(min(shutil.get_terminal_size().columns, 80) - 2, 50)
    parts = [
        "Usage: modelyard [OPTIONS] COMMAND [ARGS]...",
        *(_paragraph(text, width) for text in HELP.split("\n\n")),
        _listed("Options", OPTIONS),
        _listed("Commands", COMMANDS),
        *(_paragraph(text, width) for text in EPILOG.split("\n\n")),
    ]
    return "\n\n".join(parts)


def _paragraph(text: str, width: int) -> str:
    return textwrap.fill(text, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _listed(title: str, entries: dict[str, str]) -> str:
    longest = max(map(len, entries))
    return "\n".join([f"{title}:", *(f"  {name.ljust(longest)}  {text}" for name, text in entries.items())])


def main(arguments: list[str] | None = None) -> None:
    """Runs a command line and exits with its status. Without arguments the process is the command's own."""
    given = sys.argv[1:] if arguments is None else arguments
    if arguments is None:
        from modelyard.cli.interrupts import interrupts

        interrupts.listen()
    try:
        status = _status(given)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has read enough: `modelyard runs list | head -1`
        status = _unheard()
    except OSError as error:
        sys.stderr.write(f"error: what was to be said could not be written: {error.strerror}\n")
        status = _unheard()
    if arguments is None:
        interrupts.at_end(status)
    sys.exit(status)


def _status(given: list[str]) -> int:
    if given in (["--help"], ["-h"], ["help"]):
        print(help_text())
        return 0
    if "--debug" not in given:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own log lines are not for users
    from modelyard.cli.group import run

    try:
        return run(given)
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:  # before the command had begun
        return INTERRUPTED
    except Exception as error:
        return report(error, debug="--debug" in given, as_json="--json" in given)


def _unheard() -> int:
    """Leaves nothing in stdout that would be written, and fail again, when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


if __name__ == "__main__":
    main()
