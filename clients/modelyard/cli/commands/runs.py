"""`modelyard runs`: pipeline runs and training jobs."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from modelyard.cli.session import Session

app = new_app("List, show, watch, cancel, stop pipeline runs and training jobs.\n\n\b\nExample: modelyard runs watch RUN")

Name = Annotated[str, typer.Argument(metavar="RUN", help="A pipeline run or a training job.")]


@app.command("list")
@with_common
def list_(common: Common, limit: Annotated[int, typer.Option(min=1, help="Most of each kind.")] = 20) -> None:
    """List pipeline runs and training jobs, newest first.

    \b
    Example: modelyard runs list --limit 5
    """
    from modelyard.cli.live import state_name
    from modelyard.cli.output import date, plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part, short
    from modelyard.type.v1 import job_pb2

    with session(common) as here:
        runs = list(islice(here.client.pipelines.list_pipeline_runs(page_size=min(limit, 1000)), limit))
        jobs = list(islice(here.client.training.list_training_jobs(page_size=min(limit, 1000)), limit))
    if common.json:
        print_json({"pipeline_runs": [plain(run) for run in runs], "training_jobs": [plain(job) for job in jobs]})
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
    from modelyard.cli.commands.train import print_job
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.results import example_paths, print_run, run_document
    from modelyard.cli.session import session

    with session(common) as here:
        kind, found = find(here, name)
        paths = example_paths(here, found) if kind == "pipeline run" else {}
    if kind == "pipeline run":
        print_json({**run_document(found, paths), "steps": plain(found)["steps"]}) if common.json else print_run(found, paths)
    else:
        print_json(plain(found)) if common.json else print_job(found)


@app.command("watch")
@with_common
def watch(common: Common, name: Name) -> None:
    """Watch a pipeline run or a training job to its end. Exit code 3 when a run's gate said no.

    \b
    Example: modelyard runs watch RUN
    """
    from modelyard.cli.commands.auto import follow
    from modelyard.cli.commands.train import follow_training
    from modelyard.cli.session import session

    with session(common) as here:
        kind, found = find(here, name)
        if kind == "pipeline run":
            follow(here, found.name)
        else:
            follow_training(here, found.name)


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
            if not job:
                message = f"{name} is not training; `modelyard runs cancel {name}` ends it"
                raise FailedPrecondition(message, reason="NOT_TRAINING", values={"pipeline_run": found.name})
        _say(common, here.client.training.stop_training_job(job))


def _say(common: Common, found: Any) -> None:
    from modelyard.cli.live import state_name
    from modelyard.cli.output import plain, print_json
    from modelyard.client import last_part

    print_json(plain(found)) if common.json else print(
        f"{last_part(found.name)} {state_name(found.status.state)} {found.status.reason}".rstrip()
    )


def find(here: Session, name: str) -> tuple[str, Any]:
    """A pipeline run or a training job by its name: what kind it is, and itself."""
    from modelyard.client import NotFound

    if "/trainingJobs/" not in f"/{name}":
        try:
            return "pipeline run", here.client.pipelines.get_pipeline_run(name)
        except NotFound:
            if "/pipelineRuns/" in f"/{name}":
                raise
    try:
        return "training job", here.client.training.get_training_job(name)
    except NotFound as error:
        message = f"there is no pipeline run and no training job {name!r}; `modelyard runs list` lists them"
        raise NotFound(message, reason=error.reason, values={"name": name}) from None
