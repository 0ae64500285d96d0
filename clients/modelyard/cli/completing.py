"""What may come next on a command line: commands, options, and names of what a running server holds."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from modelyard.cli.options import DEFAULT_DATA_DIR

FILES: Final = "files"
"""Instead of words: the shell completes files."""
MOST: Final = 200
PATIENCE_S: Final = 1.0
# What a metavar, or an option, stands for.
KINDS: Final = {
    "ENDPOINT": "endpoints",
    "RUN": "runs",
    "JOB": "jobs",
    "JOB...": "jobs",
    "[JOB]...": "jobs",
    "DATASET": "datasets",
    "VERSION": "dataset versions",
    "DATASET_VERSION": "dataset versions",
    "MODEL": "models",
    "MODEL_VERSION": "model versions",
    "EXPORT": "exports",
    "EVALUATION": "evaluations",
    "--dataset": "datasets",
    "--model": "models",
    "--endpoint": "endpoints",
    "--resume": "jobs",
    "--warm-start": "model versions",
    "--incremental": "model versions",
    "--recipe": "recipes",
    "--target": "targets",
}


def suggestions(
    root: Any, words: Sequence[str], names: Callable[[str, Sequence[str]], Iterator[str]]
) -> list[tuple[str, str]] | str:
    """What may stand for the last word (which may be empty), each with what it is; or FILES.

    names: gives the names of a kind (`KINDS`), of the server that the words before lead to.
    """
    *before, last = words or [""]
    found, context, place, wanted = _walk(root, before)
    if wanted is not None:
        kind = next((KINDS[name] for name in wanted.opts if name in KINDS), KINDS.get(wanted.metavar or "", ""))
        return _fitting(((name, "") for name in names(kind, before)), last) if kind else FILES
    if last.startswith("-"):
        options = [one for one in found.params if one.param_type_name == "option" and not one.hidden]
        return _fitting(((name, one.help or "") for one in options for name in one.opts if name.startswith("--")), last)
    if hasattr(found, "list_commands"):
        inside = found.list_commands(context)
        return _fitting(((name, _about(found, context, name)) for name in inside), last)
    arguments = [one for one in found.params if one.param_type_name == "argument"]
    if not arguments:
        return []
    argument = arguments[min(place, len(arguments) - 1)]
    kind = KINDS.get(argument.metavar or "", "")
    return _fitting(((name, "") for name in names(kind, before)), last) if kind else FILES


def _walk(root: Any, words: Sequence[str]) -> tuple[Any, Any, int, Any]:
    """The command that the words lead to, its context, how many arguments it has got, and the option that waits for its value."""
    context = root.make_context("modelyard", [], resilient_parsing=True)
    found, place, wanted = root, 0, None
    for word in words:
        if wanted is not None:
            wanted = None
        elif word.startswith("-"):
            option = next((one for one in found.params if word.partition("=")[0] in (*one.opts, *one.secondary_opts)), None)
            wanted = option if option is not None and not option.is_flag and "=" not in word else None
        elif hasattr(found, "get_command") and found.get_command(context, word) is not None:
            below = found.get_command(context, word)
            context = type(context)(below, info_name=word, parent=context)
            found = below
        else:
            place += 1
    return found, context, place, wanted


def _about(group: Any, context: Any, name: str) -> str:
    from modelyard.cli.main import COMMANDS

    if context.parent is None:
        return COMMANDS.get(name, "")
    command = group.get_command(context, name)
    return (command.help or "").strip().partition("\n")[0]


def _fitting(words: Any, last: str) -> list[tuple[str, str]]:
    return [(word, said) for word, said in islice(words, MOST) if word.startswith(last)]


def names_of(kind: str, words: Sequence[str]) -> Iterator[str]:
    """The names of a kind at the server that runs; none where none does, or it does not answer at once."""
    address, data_dir = _server(words)
    if not address:
        return
    from modelyard.client import Client, ModelyardClientError
    from modelyard.client.access import access_from_environment, token_in

    access = access_from_environment()
    if not access.token:
        from dataclasses import replace

        access = replace(access, token=token_in(data_dir, address))
    project = _given(words, "--project") or os.environ.get("MODELYARD_PROJECT", "") or "default"
    with (
        contextlib.suppress(ModelyardClientError),
        Client(address, project=project, timeout_s=PATIENCE_S, patience_s=0.0, access=access) as client,
    ):
        yield from islice(_listed(client, kind), MOST)


def _listed(client: Any, kind: str) -> Iterator[str]:
    from modelyard.client import short

    lists: dict[str, Callable[[], Any]] = {
        "endpoints": client.endpoints.list_endpoints,
        "jobs": client.training.list_training_jobs,
        "datasets": client.datasets.list_datasets,
        "models": client.models.list_models,
        "exports": client.exports.list_exports,
        "evaluations": client.evaluations.list_evaluations,
        "targets": client.targets.list_targets,
    }
    if kind in lists:
        yield from (short(one.name) for one in lists[kind]())
    elif kind == "runs":
        yield from (short(one.name) for one in islice(client.pipelines.list_pipeline_runs(), MOST // 2))
        yield from (short(one.name) for one in client.training.list_training_jobs())
    elif kind == "recipes":
        yield from (one.recipe_id for one in client.training.list_recipes())
    elif kind == "dataset versions":
        for dataset in islice(client.datasets.list_datasets(), 20):
            yield from (short(one.name) for one in client.datasets.list_dataset_versions(dataset.name))
    elif kind == "model versions":
        for model in islice(client.models.list_models(), 20):
            yield from (short(one.name) for one in client.models.list_model_versions(model.name))


def _server(words: Sequence[str]) -> tuple[str, Path]:
    """Where the server of a command line is: named, or the one that has the data folder; empty where there is none."""
    given = _given(words, "--data-dir") or os.environ.get("MODELYARD_DATA_DIR", "")
    data_dir = Path(given or DEFAULT_DATA_DIR).expanduser()
    named = _given(words, "--server") or os.environ.get("MODELYARD_SERVER", "")
    if named:
        return named, data_dir
    from modelyard.client.access import SERVER_FILE

    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((data_dir / SERVER_FILE).read_text())["address"]), data_dir
    return "", data_dir


def _given(words: Sequence[str], option: str) -> str:
    """The value that an option has on a line; empty where it has none."""
    for at, word in enumerate(words):
        if word == option and at + 1 < len(words):
            return words[at + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return ""
