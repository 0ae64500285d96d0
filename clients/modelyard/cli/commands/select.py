"""`modelyard select`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.options import Common, Flavor, new_app, with_common

if TYPE_CHECKING:
    from modelyard.cli.session import Session
    from modelyard.trainer.v1 import selection_pb2, trainer_pb2

app = new_app()


@app.command(name="select")
@with_common
def select(
    common: Common,
    dataset_version: Annotated[
        str, typer.Argument(metavar="DATASET_VERSION", help="Dataset version: flowers/V001 (flowers: its newest).")
    ],
    max_train_time: Annotated[str, typer.Option(help="Time for all trainings together: 10m, 1h30m.")],
    model: Annotated[str, typer.Option(help="Model that gets the new version. Default: named as the dataset.")] = "",
    target: Annotated[
        str, typer.Option(help="Hardware that will answer; candidates are measured there. See `modelyard target list`.")
    ] = "",
    max_latency_ms: Annotated[
        float, typer.Option(show_default=False, help="Longest answer allowed there (p95), above 0 to 20000 ms. Default: any.")
    ] = 0.0,
    max_size: Annotated[str, typer.Option(help="Largest untrained export there: 200KB, 1.5MB.")] = "",
    recipe: Annotated[
        list[str] | None, typer.Option(help="A candidate: a recipe or a JSON file; may be given again. Default: the catalogue's.")
    ] = None,
    max_candidates: Annotated[int, typer.Option(help="Most that compete; 0: as many as there is time for.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of all trainings.")] = 0,
    instance_flavor: Flavor = "",
    detach: Annotated[bool, typer.Option("--detach", help="With a server: start it and return.")] = False,
) -> None:
    """Choose a model within a training time: candidates are measured on the target, those that miss the limits are set aside, the
    others compete by successive halving, and the best is trained to the end.

    \b
    Example: modelyard select flowers --max-train-time 20m --target cpu --max-latency-ms 20

    \b
    Example: modelyard select flowers/V002 --max-train-time 1h --recipe tinynet --recipe mine.json
    """
    from modelyard.cli.durations import seconds_of
    from modelyard.cli.output import note, print_json
    from modelyard.cli.session import session
    from modelyard.cli.sizes import bytes_of
    from modelyard.client import last_part, parent_of
    from modelyard.trainer.v1 import trainer_pb2

    limits: dict[str, Any] = {"target": target or ("cpu" if max_latency_ms or max_size else "")}
    limits |= {"max_inference_duration_ms": max_latency_ms}
    limits |= {"max_size_bytes": bytes_of(max_size, "max_size") if max_size else 0}
    train_s = seconds_of(max_train_time, "max_training_time")
    recipes = [_recipe(each) for each in recipe or []]
    settings = trainer_pb2.Hyperparameters(seed=seed) if seed else None
    with session(common) as here:
        version = here.client.datasets.get_dataset_version(dataset_version).name
        started = here.client.selections.create_model_selection(
            version,
            model or last_part(parent_of(version)),
            train_s,
            recipes=recipes,
            max_candidates=max_candidates or len(recipes),
            hyperparameters=settings,
            instance_flavor=instance_flavor,
            **limits,
        )
        note(f"model selection {last_part(started.name)}")
        if detach and not here.embedded:
            if here.common.json:
                print_json({"state": "QUEUED", "model_selection": started.name})
            note(f"watch it: {here.watch_command(last_part(started.name))}")
            return
        follow_selection(here, started.name)


def _recipe(recipe: str) -> trainer_pb2.Recipe:
    """A recipe by its id, or that in a JSON file."""
    from modelyard.cli.recipe_file import read_recipe
    from modelyard.trainer.v1 import trainer_pb2

    return read_recipe(recipe) if recipe.endswith(".json") else trainer_pb2.Recipe(recipe_id=recipe)


def follow_selection(here: Session, name: str) -> None:
    """Watches a model selection to its end, its candidates in a table."""
    from modelyard.cli.output import note, plain, print_json
    from modelyard.cli.selection_table import selection_picture
    from modelyard.client import last_part

    try:
        with selection_picture() as show:
            found = here.client.selections.wait_model_selection(name, on_change=show)
    except KeyboardInterrupt:
        going = "stops with this command and goes on with" if here.embedded else "goes on; watch it with"
        note(f"\nthe model selection {going}: {here.watch_command(last_part(name))}")
        raise
    print_json(plain(found)) if here.common.json else print_selection(found)


def print_selection(found: selection_pb2.ModelSelection) -> None:
    """Its candidates, and what it came to."""
    from modelyard.cli.durations import spoken
    from modelyard.cli.live import state_name
    from modelyard.cli.output import print_facts
    from modelyard.cli.selection_table import print_candidates
    from modelyard.client import last_part, short

    print_candidates(found.candidates, found.metric)
    seconds = found.train_duration.ToNanoseconds() / 1e9
    allowed = found.training_job.max_training_time.ToNanoseconds() / 1e9
    print_facts(
        {
            "state": " ".join(filter(None, (state_name(found.status.state), found.status.reason))),
            "trained": f"{spoken(seconds)} of {spoken(allowed)}" if seconds else "",
            "spared": spoken(found.spared_duration.ToNanoseconds() / 1e9) if found.HasField("spared_duration") else "",
            "best job": last_part(found.best_training_job),
            "model version": short(found.model_version),
            "summary": found.summary,
            "error": " ".join(found.status.error.message.split()),
        }
    )
