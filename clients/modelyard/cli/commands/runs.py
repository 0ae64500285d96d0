"""`modelyard runs`: pipeline runs and training jobs."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from modelyard.cli.session import Session

app = new_app(
    "List, show, watch, cancel, stop pipeline runs and training jobs; compare, note, tag and save training jobs.\n\n\b\n"
    "Example: modelyard runs watch RUN"
)

Name = Annotated[str, typer.Argument(metavar="RUN", help="A pipeline run or a training job.")]
Job = Annotated[str, typer.Argument(metavar="JOB", help="A training job.")]


@app.command("list")
@with_common
def list_(
    common: Common,
    limit: Annotated[int, typer.Option(min=1, help="Most of each kind.")] = 20,
    dataset: Annotated[str, typer.Option(help="Only trainings on a dataset, or on a version: flowers, flowers/V001.")] = "",
    model: Annotated[str, typer.Option(help="Only trainings of a model.")] = "",
    task: Annotated[str, typer.Option(help="Only trainings of a task, such as image_classification.")] = "",
    tag: Annotated[str, typer.Option(help="Only trainings with a tag.")] = "",
    text: Annotated[str, typer.Option(help="Only trainings with this in name, recipe, tags, notes or remarks.")] = "",
    best: Annotated[str, typer.Option("--best", metavar="METRIC", help="The best first, by a metric such as val_accuracy.")] = "",
    parts: Annotated[bool, typer.Option("--parts", help="Also short runs and folds.")] = False,
) -> None:
    """List pipeline runs and training jobs, newest first; with a filter only training jobs.

    \b
    Example: modelyard runs list --dataset flowers --best val_accuracy
    """
    from modelyard.cli.live import state_name
    from modelyard.cli.output import date, plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part, short
    from modelyard.type.v1 import job_pb2

    filters: dict[str, Any] = {"dataset": dataset, "model": model, "task": task, "tag": tag, "text": text, "order_by": best}
    size = min(limit, 1000)
    with session(common) as here:
        every = here.client.pipelines.list_pipeline_runs(page_size=size)
        runs = [] if any(filters.values()) or parts else list(islice(every, limit))
        found = here.client.training.list_training_jobs(**filters, show_parts=parts, page_size=size)
        jobs = list(islice(found, limit))
    if common.json:
        print_json({"pipeline_runs": [plain(run) for run in runs], "training_jobs": [plain(job) for job in jobs]})
        return

    if any(filters.values()) or parts:
        from modelyard.cli.ledger import print_jobs

        print_jobs(jobs)
        return

    def row(kind: str, one: Any, made: str) -> tuple[Any, ...]:
        percent = f"{100 * one.status.progress.fraction:.0f}%" if one.status.state == job_pb2.JOB_STATE_RUNNING else ""
        return (
            kind,
            last_part(one.name),
            state_name(one.status.state),
            percent,
            one.status.reason,
            short(made),
            date(one.status.create_time),
        )

    rows = [row("pipeline run", run, run.result.model_version) for run in runs]
    rows += [row("training job", job, job.model_version) for job in jobs]
    print_table(("kind", "name", "state", "done", "reason", "model version", "created"), rows)


@app.command("show")
@with_common
def show(common: Common, name: Name) -> None:
    """Show a pipeline run or a training job.

    \b
    Example: modelyard runs show RUN
    """
    from modelyard.cli.commands.advise import print_advised
    from modelyard.cli.commands.crossing import print_cross
    from modelyard.cli.commands.select import print_selection
    from modelyard.cli.commands.train import print_job
    from modelyard.cli.next_steps import next_steps
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.results import asking, example_paths, print_run, run_document
    from modelyard.cli.session import session

    with session(common) as here:
        kind, found = find(here, name)
        paths = example_paths(here, found) if kind == "pipeline run" else {}
        ask = asking(here, found.result.endpoint, found.result.dataset_version) if kind == "pipeline run" else ""
        ways = next_steps(here, found) if kind == "pipeline run" else []
    if kind == "pipeline run" and common.json:
        print_json({**run_document(found, paths, ways), "steps": plain(found)["steps"]})
    elif kind == "pipeline run":
        print_run(found, paths, ask, ways)
    elif common.json:
        print_json(plain(found))
    else:
        printers: dict[str, Any] = {"cross-validation": print_cross, "advised training": print_advised}
        printers["model selection"] = print_selection
        printers.get(kind, print_job)(found)


@app.command("watch")
@with_common
def watch(common: Common, name: Name) -> None:
    """Watch a pipeline run or a training job to its end. Exit code 3 when a run's gate said no.

    \b
    Example: modelyard runs watch RUN
    """
    from modelyard.cli.commands.advise import follow_advised
    from modelyard.cli.commands.auto import follow
    from modelyard.cli.commands.crossing import follow_cross
    from modelyard.cli.commands.select import follow_selection
    from modelyard.cli.commands.train import follow_training
    from modelyard.cli.session import session

    with session(common) as here:
        kind, found = find(here, name)
        if kind == "pipeline run":
            follow(here, found.name)
        elif kind == "cross-validation":
            follow_cross(here, found.name)
        elif kind == "advised training":
            follow_advised(here, found.name)
        elif kind == "model selection":
            follow_selection(here, found.name)
        else:
            follow_training(here, found.name)


@app.command("compare")
@with_common
def compare(
    common: Common,
    names: Annotated[list[str], typer.Argument(metavar="JOB...", help="Training jobs; the first is compared with.")],
) -> None:
    """Put training jobs side by side: settings that differ, metrics, curves, cost, and whether chance explains the difference.

    \b
    Example: modelyard runs compare JOB_A JOB_B
    """
    from modelyard.cli.ledger import print_comparison
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session

    with session(common) as here:
        found = here.client.training.compare_training_jobs(names)
    print_json(plain(found)) if common.json else print_comparison(found)


@app.command("note")
@with_common
def note_(
    common: Common, name: Job, text: Annotated[str, typer.Argument(metavar="TEXT", help="What is to be remembered.")]
) -> None:
    """Write down a remark about a training job; it keeps who wrote it and when.

    \b
    Example: modelyard runs note JOB "labels of V002 were fixed after this"
    """
    from modelyard.cli.session import session

    with session(common) as here:
        _say(common, here.client.training.add_training_remark(name, text))


@app.command("tag")
@with_common
def tag_(
    common: Common,
    name: Job,
    tags: Annotated[list[str] | None, typer.Argument(metavar="[TAG]...", help="Tags to add.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A tag to take away. May be given again.")] = None,
) -> None:
    """Add tags to a training job, or take some away.

    \b
    Example: modelyard runs tag JOB baseline for-review --remove draft
    """
    from modelyard.cli.session import session

    with session(common) as here:
        job = here.client.training.get_training_job(name)
        kept = [each for each in dict.fromkeys([*job.tags, *(tags or [])]) if each not in (remove or [])]
        changed = here.client.training.set_training_tags(job.name, kept)
        _say(common, changed)
    if not common.json:
        print("tags: " + (", ".join(changed.tags) or "none"))


@app.command("save")
@with_common
def save(
    common: Common,
    to: Annotated[
        str,
        typer.Argument(
            metavar="FILE.csv|FOLDER|URL", help="A CSV file; a folder in MLflow's form (mlruns); or an MLflow server, http://..."
        ),
    ],
    names: Annotated[list[str] | None, typer.Argument(metavar="[JOB]...", help="Training jobs. Default: all.")] = None,
    dataset: Annotated[str, typer.Option(help="Only trainings on a dataset, or on a version.")] = "",
    tag: Annotated[str, typer.Option(help="Only trainings with a tag.")] = "",
    curves: Annotated[bool, typer.Option("--curves", help="CSV: a line for each point of the curves.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Curves as TensorBoard's event files, into a folder.")
    ] = False,
) -> None:
    """Save training jobs as CSV; or for MLflow: as its files (it reads them with MLFLOW_ALLOW_FILE_STORE=true), or to its server,
    through its client where that is installed.

    \b
    Example: modelyard runs save runs.csv --dataset flowers

    \b
    Example: modelyard runs save mlruns

    \b
    Example: modelyard runs save logs --tensorboard; tensorboard --logdir logs
    """
    from modelyard.cli.output import note, print_json
    from modelyard.cli.save_runs import saved
    from modelyard.cli.session import session

    with session(common) as here:
        training = here.client.training
        if names:
            jobs = [training.get_training_job(name) for name in names]
        else:
            jobs = list(training.list_training_jobs(dataset=dataset, tag=tag, show_parts=True, page_size=1000))
        count = saved(here, jobs, to, curves, tensorboard)
    if common.json:
        print_json({"path": to, "jobs": count})
    note(f"{count} training jobs saved to {to}")


@app.command("cancel")
@with_common
def cancel(common: Common, name: Name) -> None:
    """Cancel a pipeline run or a training job; it makes no model version.

    \b
    Example: modelyard runs cancel RUN
    """
    from modelyard.cli.session import session

    with session(common) as here:
        kind, found = find(here, name)
        if kind == "pipeline run":
            _say(common, here.client.pipelines.cancel_pipeline_run(found.name))
        elif kind == "cross-validation":
            _say(common, here.client.advisor.cancel_cross_validation(found.name))
        elif kind == "advised training":
            _say(common, here.client.advisor.cancel_advised_training(found.name))
        elif kind == "model selection":
            _say(common, here.client.selections.cancel_model_selection(found.name))
        else:
            _say(common, here.client.training.cancel_training_job(found.name))


@app.command("stop")
@with_common
def stop(common: Common, name: Name) -> None:
    """Stop a training early and keep its best model; a pipeline run goes on with it.

    \b
    Example: modelyard runs stop RUN
    """
    from modelyard.cli.session import session
    from modelyard.client import FailedPrecondition

    with session(common) as here:
        kind, found = find(here, name)
        job = found.name
        if kind == "pipeline run":
            job = (
                next((step.resource for step in found.steps if step.step_id == "train" and step.resource), "")
                or found.result.training_job
            )
            kind = "model selection" if "/modelSelections/" in job else kind
            if not job:
                message = f"{name} is not training; `modelyard runs cancel {name}` ends it"
                raise FailedPrecondition(message, reason="NOT_TRAINING", values={"pipeline_run": found.name})
        if kind == "model selection":
            _say(common, here.client.selections.stop_model_selection(job))
        else:
            _say(common, here.client.training.stop_training_job(job))


def _say(common: Common, found: Any) -> None:
    from modelyard.cli.live import state_name
    from modelyard.cli.output import plain, print_json
    from modelyard.client import last_part

    print_json(plain(found)) if common.json else print(
        f"{last_part(found.name)} {state_name(found.status.state)} {found.status.reason}".rstrip()
    )


def find(here: Session, name: str) -> tuple[str, Any]:
    """A pipeline run, a training job, a cross-validation, an advised training or a model selection by its name: what kind it is,
    and itself."""
    from modelyard.client import InvalidArgument, NotFound, Unimplemented

    if "/trainingJobs/" not in f"/{name}":
        try:
            return "pipeline run", here.client.pipelines.get_pipeline_run(name)
        except NotFound:
            if "/pipelineRuns/" in f"/{name}":
                raise
    advisor = here.client.advisor
    others = (
        ("cross-validation", advisor.get_cross_validation),
        ("advised training", advisor.get_advised_training),
        ("model selection", here.client.selections.get_model_selection),
    )
    try:
        return "training job", here.client.training.get_training_job(name)
    except NotFound as error:
        for kind, get in others:
            with suppress(NotFound, InvalidArgument, Unimplemented):
                return kind, get(name)
        message = f"there is no pipeline run and no training job {name!r}; `modelyard runs list` lists them"
        raise NotFound(message, reason=error.reason, values={"name": name}) from None
