"""`modelyard train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.options import Common, Flavor, new_app, with_common

if TYPE_CHECKING:
    from modelyard.cli.session import Session
    from modelyard.trainer.v1 import trainer_pb2

app = new_app()


@app.command(name="train")
@with_common
def train(
    common: Common,
    dataset_version: Annotated[
        str,
        typer.Argument(
            metavar="DATASET_VERSION", help="Dataset version: flowers/V001 (flowers: its newest). With --resume: the job's own."
        ),
    ] = "",
    model: Annotated[str, typer.Option(help="Model that gets the new version. Default: named as the dataset.")] = "",
    recipe: Annotated[
        str,
        typer.Option(
            help="Recipe, see --recipes; or a JSON file with one, see `modelyard recipes show`. Default: the service chooses."
        ),
    ] = "",
    framework: Annotated[str, typer.Option(help="torch or tensorflow. Default: as the recipe has it.")] = "",
    recipes: Annotated[bool, typer.Option("--recipes", help="List the recipes (that fit the dataset version) and end.")] = False,
    resume: Annotated[str, typer.Option(metavar="JOB", help="Go on from a checkpoint of this training job.")] = "",
    from_: Annotated[str, typer.Option("--from", help="Which checkpoint of it: last or best.")] = "last",
    warm_start: Annotated[
        str,
        typer.Option(
            metavar="MODEL_VERSION",
            help="Start from the weights of a model version: flowers/V002; best: the most precise of the model; flowers/best.",
        ),
    ] = "",
    repeat: Annotated[str, typer.Option(metavar="REASON", help="Why an experiment that exists is run again.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="A word to find it by. May be given again.")] = None,
    folds: Annotated[
        int, typer.Option(show_default=False, help="Cross-validate on so many folds instead of training one model.")
    ] = 0,
    repeats: Annotated[
        int,
        typer.Option(
            show_default=False, help="With --folds: how often, each time cut anew. Without: train so often with other seeds."
        ),
    ] = 0,
    group_by: Annotated[
        str, typer.Option(help="With --folds: keeps together what has the same attribute, column or {group} of a file name.")
    ] = "",
    max_train_time: Annotated[str, typer.Option(help="Most time: 90s, 10m, 1h30m; the model at that moment is kept.")] = "",
    max_epochs: Annotated[int | None, typer.Option(help="Most passes over the training examples.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Most optimizer steps.")] = None,
    batch_size: Annotated[str, typer.Option(metavar="N|auto", help="Examples per step; auto: the largest that fits.")] = "",
    optimizer: Annotated[str, typer.Option(help="sgd, adam, adamw, rmsprop or nadam.")] = "",
    base_lr: Annotated[
        str, typer.Option(metavar="RATE|auto", help="Learning rate after the warm-up; auto: found by a range test.")
    ] = "",
    momentum: Annotated[float | None, typer.Option(help="Momentum; beta1 of the Adam family.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay.")] = None,
    beta2: Annotated[float | None, typer.Option(help="Second beta of the Adam family.")] = None,
    schedule: Annotated[str, typer.Option(help="constant, step, cosine, reduce_on_plateau, one_cycle or polynomial.")] = "",
    power: Annotated[float | None, typer.Option(help="Power of schedule polynomial.")] = None,
    step_size: Annotated[int | None, typer.Option(help="Steps between two cuts of schedule step.")] = None,
    gamma: Annotated[float | None, typer.Option(help="Factor of schedules step and reduce_on_plateau.")] = None,
    plateau_patience: Annotated[
        int | None, typer.Option(help="Epochs without improvement before reduce_on_plateau cuts.")
    ] = None,
    plateau_steps: Annotated[int | None, typer.Option(help="The same in steps; 0: epochs count.")] = None,
    warmup_steps: Annotated[int | None, typer.Option(help="Steps over which the learning rate rises.")] = None,
    clip_norm: Annotated[float | None, typer.Option(help="Longest norm of a step's gradient; 0: any.")] = None,
    accumulation_steps: Annotated[int | None, typer.Option(help="Parts that a step's batch is computed in.")] = None,
    class_weights: Annotated[
        bool | None, typer.Option("--class-weights/--no-class-weights", help="Weigh examples by how rare their class is.")
    ] = None,
    balanced_sampling: Annotated[
        bool | None,
        typer.Option("--balanced-sampling/--no-balanced-sampling", help="Draw each class equally often, however rare it is."),
    ] = None,
    deterministic: Annotated[
        bool | None, typer.Option("--deterministic/--no-deterministic", help="The same run gives the same bits; slower.")
    ] = None,
    early_stopping_patience: Annotated[
        int | None, typer.Option(help="Epochs without improvement before the end; 0 never.")
    ] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="Label smoothing.")] = None,
    mixup: Annotated[float | None, typer.Option(help="Mixes pairs of pictures: alpha of the Beta distribution.")] = None,
    ema_decay: Annotated[float | None, typer.Option(help="Keeps the running mean of the weights, with this decay.")] = None,
    augmentation: Annotated[str | None, typer.Option(help="Pictures, sounds, series: none, light, standard or strong.")] = None,
    horizon: Annotated[int | None, typer.Option(help="Forecasts: readings ahead. Default: by the data.")] = None,
    context_length: Annotated[int | None, typer.Option(help="Forecasts: readings looked back on.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order and augmentation.")] = None,
    instance_flavor: Flavor = "",
    detach: Annotated[bool, typer.Option("--detach", help="With a server: start the job and return.")] = False,
) -> None:
    """Train a model on a dataset version. The job goes on when this command is interrupted and a server runs.

    \b
    Example: modelyard train flowers/V001 --recipe tinynet --max-train-time 5m

    \b
    Example: modelyard train --resume JOB --from best --base-lr 0.0003 --max-epochs 20

    \b
    Example: modelyard train flowers/V001 --folds 5 --repeats 2
    """
    from modelyard.cli.asking import wrong
    from modelyard.cli.durations import seconds_of
    from modelyard.cli.session import session

    settings = {
        "max_epochs": max_epochs,
        "max_steps": max_steps,
        **_number_or_auto("batch_size", batch_size, int),
        **_number_or_auto("base_lr", base_lr, float),
        "beta2": beta2,
        "power": power,
        "plateau_steps": plateau_steps,
        "horizon": horizon,
        "context_length": context_length,
        "clip_norm": clip_norm,
        "accumulation_steps": accumulation_steps,
        "class_weights": class_weights,
        "balanced_sampling": balanced_sampling,
        "deterministic": deterministic,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "step_size": step_size,
        "gamma": gamma,
        "plateau_patience": plateau_patience,
        "warmup_steps": warmup_steps,
        "early_stopping_patience": early_stopping_patience,
        "label_smoothing": label_smoothing,
        "mixup": mixup,
        "ema_decay": ema_decay,
        "augmentation": augmentation,
        "seed": seed,
    }
    hyperparameters = _hyperparameters(settings, optimizer, schedule)
    train_s = seconds_of(max_train_time, "max_training_time") if max_train_time else None
    if not (dataset_version or resume or recipes):
        raise wrong("dataset_version", "", "dataset_version is missing; give one such as flowers/V001, or --resume JOB")
    with session(common) as here:
        if recipes:
            _print_recipes(here, dataset_version)
            return
        version, model_name, same = _subject(here, dataset_version, model, resume)
        if folds or repeats:
            from modelyard.cli.commands.crossing import cross

            wanted = _asked(
                here, version, model_name, _recipe(recipe, framework), hyperparameters, train_s, warm_start, instance_flavor
            )
            cross(here, wanted, folds, repeats, group_by, detach)
            return
        job = here.client.training.create_training_job(
            dataset_version=version,
            model=model_name,
            recipe=_recipe(recipe or same, framework),
            hyperparameters=hyperparameters,
            max_training_time_s=train_s,
            resume_from=resume,
            checkpoint=from_,
            warm_start_model_version=_start(here, warm_start, model_name),
            instance_flavor=instance_flavor,
            repeat_reason=repeat,
            tags=tag or [],
        )
        follow_or_leave(here, job.name, detach)


def _number_or_auto(name: str, text: str, kind: type[int] | type[float]) -> dict[str, Any]:
    """A number, or the wish that the run finds it."""
    from modelyard.cli.asking import wrong

    if not text:
        return {}
    if text.lower() == "auto":
        return {f"auto_{name}": True}
    try:
        return {name: kind(text)}
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise wrong(name, text, f"{name} is {text!r}; give {what}, or auto") from None


def _recipe(recipe: str, framework: str) -> trainer_pb2.Recipe:
    """The recipe of an id, or in a JSON file; with the framework where one is given."""
    from modelyard.cli.recipe_file import read_recipe
    from modelyard.trainer.v1 import trainer_pb2

    found = read_recipe(recipe) if recipe.endswith(".json") else trainer_pb2.Recipe(recipe_id=recipe)
    found.framework = framework or found.framework
    return found


def _start(here: Session, warm_start: str, model: str) -> str:
    """The version to start from by its full name; `best` and `latest` alone are of the model that is trained."""
    if not warm_start:
        return ""
    if warm_start in ("best", "latest"):
        warm_start = f"{here.client.names.model(model)}/versions/{warm_start}"
    name: str = here.client.names.model_version(warm_start)
    return name if name.endswith("/versions/best") else here.client.models.get_model_version(name).name


def _asked(
    here: Session,
    version: str,
    model: str,
    wanted: trainer_pb2.Recipe,
    hyperparameters: trainer_pb2.Hyperparameters,
    train_s: float | None,
    warm_start: str,
    instance_flavor: str,
) -> trainer_pb2.TrainingJob:
    """What each run of a cross-validation trains."""
    from modelyard.client._messages import duration
    from modelyard.trainer.v1 import trainer_pb2

    wanted.hyperparameters.MergeFrom(hyperparameters)
    job = trainer_pb2.TrainingJob(dataset_version=version, recipe=wanted, instance_flavor=instance_flavor)
    job.model = here.client.names.model(model)
    if train_s is not None:
        job.max_training_time.CopyFrom(duration(train_s))
    if warm_start:
        job.warm_start_model_version = _start(here, warm_start, model)
    return job


def _hyperparameters(settings: dict[str, Any], optimizer: str, schedule: str) -> trainer_pb2.Hyperparameters:
    from modelyard.cli.asking import wrong
    from modelyard.client.enums import enum_number
    from modelyard.trainer.v1 import trainer_pb2

    found = trainer_pb2.Hyperparameters(
        optimizer=enum_number(trainer_pb2.Optimizer, optimizer, "optimizer"),
        schedule=enum_number(trainer_pb2.Schedule, schedule, "schedule"),
    )
    for name, value in settings.items():
        if value is not None:
            try:
                setattr(found, name, value)
            except (ValueError, TypeError):
                raise wrong(name, value, f"{name} is {value!r}, which is too large a number") from None
    return found


def _subject(here: Session, dataset_version: str, model: str, resume: str) -> tuple[str, str, str]:
    """Dataset version and model to train, and the recipe when a job is resumed: what is not given is taken from that job."""
    from modelyard.client import last_part, parent_of

    if resume:
        job = here.client.training.get_training_job(resume)
        version = dataset_version or job.dataset_version
        return version, model or job.model, job.resolved_recipe.recipe_id or job.recipe.recipe_id
    found = here.client.datasets.get_dataset_version(dataset_version).name
    return found, model or last_part(parent_of(found)), ""


def _print_recipes(here: Session, dataset_version: str) -> None:
    from modelyard.cli.output import plain, print_json, print_table

    training = here.client.training
    if dataset_version:
        recipes = training.suggest_recipes(here.client.datasets.get_dataset_version(dataset_version).name)
    else:
        recipes = training.list_recipes()
    if here.common.json:
        print_json({"recipes": [plain(recipe) for recipe in recipes]})
        return
    print_table(
        ("recipe", "architecture", "parameters", "when"),
        [(one.recipe_id, one.architecture, one.parameter_count, one.summary) for one in recipes],
    )


def follow_or_leave(here: Session, name: str, detach: bool) -> None:
    """Watches a training job that was started, or says how to."""
    from modelyard.cli.output import note, print_json
    from modelyard.client import last_part

    note(f"training job {last_part(name)}")
    if detach and not here.embedded:
        if here.common.json:
            print_json({"state": "QUEUED", "training_job": name})
        note(f"watch it: {here.watch_command(last_part(name))}")
        return
    follow_training(here, name)


def follow_training(here: Session, name: str) -> None:
    """Watches a training job to its end and prints what it made."""
    from modelyard.cli.live import job_bar
    from modelyard.cli.output import note, plain, print_json
    from modelyard.client import last_part

    try:
        with job_bar("train", "training_job") as show:
            job = here.client.training.wait_training_job(name, on_change=show)
    except KeyboardInterrupt:
        going = "stops with this command and goes on with" if here.embedded else "goes on; watch it with"
        note(f"\nthe job {going}: {here.watch_command(last_part(name))}")
        raise
    print_json(plain(job)) if here.common.json else print_job(job)


def print_job(job: trainer_pb2.TrainingJob) -> None:
    from modelyard.cli.durations import spoken
    from modelyard.cli.live import figures, state_name
    from modelyard.cli.output import date, print_facts
    from modelyard.client import last_part, short

    facts = {
        "training job": last_part(job.name),
        "state": " ".join(filter(None, (state_name(job.status.state), job.status.reason))),
        "dataset version": short(job.dataset_version),
        "recipe": job.resolved_recipe.recipe_id or job.recipe.recipe_id,
        "model version": short(job.model_version),
        "trained": spoken(job.train_duration.seconds + job.train_duration.nanos / 1e9) if job.HasField("train_duration") else "",
        "last": figures(job.latest_point) if job.HasField("latest_point") else "",
        "error": " ".join(job.status.error.message.split()),
        "tags": list(job.tags),
        "repeats": f"{last_part(job.repeat_of)}: {job.repeat_reason or 'another seed'}" if job.repeat_of else "",
        "part of": last_part(job.part_of),
    }
    print_facts(facts)
    for note in job.notes:
        print(f"note at step {note.step}: {note.message}")
    for remark in job.remarks:
        print(f"remark of {remark.author}, {date(remark.create_time)}: {remark.text}")
    for checkpoint in job.checkpoints:
        scores = "  ".join(f"{name} {value:.4g}" for name, value in sorted(checkpoint.metrics.items()))
        print(
            f"checkpoint {'best' if checkpoint.kind == 2 else 'last'}: epoch {checkpoint.epoch}, step {checkpoint.step}  {scores}"
        )
