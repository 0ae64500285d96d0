"""`modelyard advise`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from modelyard.cli.session import Session
    from modelyard.trainer.v1 import advice_pb2

app = new_app()


@app.command(name="advise")
@with_common
def advise(
    common: Common,
    job: Annotated[str, typer.Argument(metavar="JOB", help="A training job. With --watch: an advised training.")],
    auto: Annotated[bool, typer.Option("--auto", help="Take the steps, one after the other, inside --budget.")] = False,
    budget: Annotated[str, typer.Option(help="With --auto: most time for all steps together, such as 2h.")] = "",
    short_run_steps: Annotated[int, typer.Option(show_default=False, help="Most steps of a short run. Default: 3500.")] = 0,
    short_run_share: Annotated[
        float, typer.Option(show_default=False, help="Share of a whole run, where that is fewer steps. Default: 0.25.")
    ] = 0.0,
    baseline_runs: Annotated[
        int, typer.Option(show_default=False, help="Seeds that short runs are compared with. Default: 3.")
    ] = 0,
    max_steps: Annotated[int, typer.Option(show_default=False, help="With --auto: most steps to take. Default: 20.")] = 0,
    take: Annotated[
        int, typer.Option(metavar="N", show_default=False, help="Start what is proposed under number N, at full length.")
    ] = 0,
    watch: Annotated[bool, typer.Option("--watch", help="JOB is an advised training: watch it to its end.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="With --auto and a server: start it and return.")] = False,
) -> None:
    """Say what became of a training run, by which figures, and what to try next; with --auto, try it.

    \b
    Example: modelyard advise JOB

    \b
    Example: modelyard advise JOB --auto --budget 2h
    """
    from modelyard.cli.asking import wrong
    from modelyard.cli.durations import seconds_of
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session

    if auto and not budget:
        raise wrong("budget", "", "budget is missing; give the most time that --auto may take, such as --budget 2h")
    if budget and not auto:
        raise wrong("budget", budget, "budget goes with --auto; without it nothing is started")
    with session(common) as here:
        if watch:
            follow_advised(here, job)
            return
        if auto:
            _start(
                here,
                job,
                seconds_of(budget, "budget"),
                detach,
                _given(short_run_steps, short_run_share, baseline_runs, max_steps),
            )
            return
        found = here.client.advisor.advise(job, short_run_steps=short_run_steps, short_run_share=short_run_share)
        if take:
            _take(here, found, take, detach)
            return
    print_json(plain(found)) if common.json else print_advice(found)


def _take(here: Session, found: advice_pb2.Advice, number: int, detach: bool) -> None:
    """Starts a proposal's job."""
    from modelyard.cli.asking import wrong
    from modelyard.cli.commands.train import follow_or_leave
    from modelyard.trainer.v1 import advice_pb2

    places = [at for at, each in enumerate(found.proposals, start=1) if each.kind == advice_pb2.PROPOSAL_KIND_TRAIN]
    if number not in places:
        known = ", ".join(map(str, places)) or "none"
        raise wrong("take", number, f"take is {number}; the proposals that start a training are {known}")
    job = here.client.training.create_training_job(found.proposals[number - 1].training_job)
    follow_or_leave(here, job.name, detach)


def _given(steps: int, share: float, baseline_runs: int, max_steps: int) -> dict[str, Any]:
    return {"short_run_steps": steps, "short_run_share": share, "baseline_runs": baseline_runs, "max_steps": max_steps}


def _start(here: Session, job: str, budget_s: float, detach: bool, given: dict[str, Any]) -> None:
    from modelyard.cli.output import note, print_json
    from modelyard.client import last_part

    started = here.client.advisor.create_advised_training(job, budget_s, **given)
    note(f"advised training {last_part(started.name)}")
    if detach and not here.embedded:
        if here.common.json:
            print_json({"state": "QUEUED", "advised_training": started.name})
        note(f"watch it: modelyard advise {last_part(started.name)} --watch")
        return
    follow_advised(here, started.name)


def follow_advised(here: Session, name: str) -> None:
    """Watches an advised training, each step as it ends."""
    from modelyard.cli.live import job_bar
    from modelyard.cli.output import note, plain, print_json
    from modelyard.client import last_part

    told = 0

    def tell(change: Any) -> None:
        nonlocal told
        steps = change.advised_training.steps
        for step in steps[told:]:
            note(_step_line(step))
        told = len(steps)
        show(change)

    try:
        with job_bar("advise", "advised_training") as show:
            found = here.client.advisor.wait_advised_training(name, on_change=tell)
    except KeyboardInterrupt:
        going = "stops with this command and goes on with the next" if here.embedded else "goes on"
        note(f"\nthe advised training {going}; watch it with: modelyard advise {last_part(name)} --watch")
        raise
    print_json(plain(found)) if here.common.json else print_advised(found)


def print_advised(found: advice_pb2.AdvisedTraining) -> None:
    """Its steps, and what they came to."""
    from modelyard.cli.output import print_facts
    from modelyard.client import last_part, short

    for step in found.steps:
        print(_step_line(step))
    print_facts(
        {
            "summary": found.summary,
            "best job": last_part(found.best_training_job),
            "model version": short(found.model_version),
        }
    )


def _step_line(step: advice_pb2.AdvisedStep) -> str:
    from modelyard.cli.durations import spoken
    from modelyard.cli.output import enum_name
    from modelyard.client import last_part
    from modelyard.trainer.v1 import advice_pb2

    effect = enum_name(advice_pb2.StepEffect.DESCRIPTOR, step.effect).lower().replace("_", " ")
    length = "short run" if step.short_run else "full run"
    jobs = ", ".join(last_part(name) for name in step.training_jobs)
    return f"{step.rung} ({length}, {spoken(step.duration.ToNanoseconds() / 1e9)}): {effect}. {step.message} [{jobs}]"


def print_advice(found: advice_pb2.Advice) -> None:
    """The case, what it is seen by, and the next steps with the command of each."""
    from modelyard.cli.durations import spoken
    from modelyard.cli.output import enum_name
    from modelyard.client import last_part
    from modelyard.trainer.v1 import advice_pb2

    case = enum_name(advice_pb2.RunCase.DESCRIPTOR, found.run_case).lower().replace("_", " ")
    print(f"{case}: {found.summary}")
    for evidence in found.evidence:
        print(f"  - {evidence.text}")
    print("what to try next:" if found.proposals else "there is nothing to propose")
    for number, proposal in enumerate(found.proposals, start=1):
        cost = (
            f" (about {spoken(proposal.expected_duration.ToNanoseconds() / 1e9)})"
            if proposal.HasField("expected_duration")
            else ""
        )
        print(f"{number}. {proposal.rung}{cost}: {proposal.reason}")
        if proposal.kind == advice_pb2.PROPOSAL_KIND_TRAIN:
            changed = ", ".join(f"{name} {value}" for name, value in sorted(proposal.changes.items()))
            print(f"   {changed}: modelyard advise {last_part(found.training_job)} --take {number}")
        if proposal.tried_by:
            print(f"   tried already: {last_part(proposal.tried_by)}")
    if any(proposal.kind == advice_pb2.PROPOSAL_KIND_TRAIN for proposal in found.proposals):
        print(f"or let it try: modelyard advise {last_part(found.training_job)} --auto --budget 1h")
