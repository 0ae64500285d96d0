"""`modelyard train --folds` and `--repeats`: cross-validations."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelyard.cli.session import Session
    from modelyard.trainer.v1 import advice_pb2, trainer_pb2


def cross(here: Session, wanted: trainer_pb2.TrainingJob, folds: int, repeats: int, group_by: str, detach: bool) -> None:
    """Starts a cross-validation and watches it to its end."""
    from modelyard.cli.output import note, print_json
    from modelyard.client import last_part

    advisor = here.client.advisor
    started = advisor.create_cross_validation(wanted, folds=folds, repeats=repeats, group_by=group_by)
    name = last_part(started.name)
    note(f"cross-validation {name}")
    if detach and not here.embedded:
        if here.common.json:
            print_json({"state": "QUEUED", "cross_validation": started.name})
        note(f"watch it: {here.watch_command(name)}")
        return
    follow_cross(here, started.name)


def follow_cross(here: Session, name: str) -> None:
    """Watches a cross-validation to its end and prints what it came to."""
    from modelyard.cli.live import job_bar
    from modelyard.cli.output import note, plain, print_json
    from modelyard.client import last_part

    try:
        with job_bar("cross-validate", "cross_validation") as show:
            found = here.client.advisor.wait_cross_validation(name, on_change=show)
    except KeyboardInterrupt:
        going = "stops with this command and goes on with" if here.embedded else "goes on; watch it with"
        note(f"\nthe cross-validation {going}: {here.watch_command(last_part(name))}")
        raise
    print_json(plain(found)) if here.common.json else print_cross(found)


def print_cross(found: advice_pb2.CrossValidation) -> None:
    """Runs, and each metric with its interval."""
    from modelyard.cli.live import state_name
    from modelyard.cli.output import number, print_table
    from modelyard.client import last_part

    names = sorted({name for run in found.runs for name in run.metrics})
    rows = [
        (
            run.repeat,
            run.fold if found.folds else "",
            run.seed,
            last_part(run.training_job),
            state_name(run.state),
            run.train_count or "",
            run.validation_count or "",
            *(number(run.metrics[name]) if name in run.metrics else "" for name in names),
            run.error[:60],
        )
        for run in found.runs
    ]
    print_table(("repeat", "fold", "seed", "job", "state", "train", "validate", *names, "error"), rows)
    for metric in found.metrics:
        interval = f"  95 % interval {number(metric.lower)} to {number(metric.upper)}" if metric.HasField("lower") else ""
        print(f"{metric.name}  mean {number(metric.mean)}  deviation {number(metric.deviation)}  {metric.runs} runs{interval}")
    for said in found.notes:
        print(said)
