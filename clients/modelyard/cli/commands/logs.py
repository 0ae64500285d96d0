"""`modelyard logs`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from modelyard.cli.session import Session

app = new_app()
# Where an id alone is looked for, in this order.
COLLECTIONS = ("trainingJobs", "exports", "evaluations", "latencyProfiles")


@app.command(name="logs")
@with_common
def logs(
    common: Common,
    job: Annotated[str, typer.Argument(metavar="JOB", help="Id of a training job, export or evaluation; or a full name.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    attempt: Annotated[int, typer.Option(help="Only this attempt; 0: all.", min=0)] = 0,
) -> None:
    """Print what the workers of a job wrote: of each the newest part is kept, also when its process or pod is gone.

    \b
    Example: modelyard logs JOB --follow
    """
    from modelyard.cli.output import note, print_json
    from modelyard.cli.session import session

    with session(common) as here:
        name = _found(here, job)
        live = follow and not common.json
        pieces = here.client.jobs.watch_job_log(name) if live else iter(here.client.jobs.get_job_log(name))
        wanted = (piece for piece in pieces if attempt in (0, piece.attempt))
        if common.json:
            listed = [{"attempt": one.attempt, "node": one.node, "text": one.data.decode(errors="replace")} for one in wanted]
            print_json({"name": name, "pieces": listed})
            return
        shown = False
        for piece in wanted:
            shown = True
            sys.stdout.buffer.write(piece.data)
            sys.stdout.buffer.flush()
        if not shown:
            note(
                f"attempt {attempt} of {job} wrote nothing, or was never made"
                if attempt
                else f"the workers of {job} wrote nothing"
            )


def _found(here: Session, job: str) -> str:
    """The full name of a job: an id alone may be that of any kind."""
    from modelyard.client import NotFound

    if "/" in job:
        return job
    for collection in COLLECTIONS:
        name = f"{here.client.names.parent}/{collection}/{job}"
        try:
            here.client.jobs.get_job_log(name)
        except NotFound:
            continue
        return name
    message = f"there is no training job, export, evaluation or latency profile {job!r} in project {here.client.names.project}"
    raise NotFound(message, reason="JOB_NOT_FOUND", values={"job": job})
