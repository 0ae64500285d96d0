"""`modelyard watch`: whether endpoints still answer as well as at their gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from modelyard.pipeline.v1 import reevaluation_pb2

app = new_app(
    "Add, list, show, run, delete: endpoints scored on newly labelled examples, on schedule.\n\n\b\n"
    "Example: modelyard watch add flowers --dataset flowers --every 1d"
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name: the endpoint's, unless another was given.")]
DRIFTED_STATUS: Final = 3


@app.command("add")
@with_common
def add(
    common: Common,
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint whose champion is scored.")],
    dataset: Annotated[str, typer.Option(help="Labelled examples: the newest version of this dataset, each time.")] = "",
    dataset_version: Annotated[str, typer.Option(help="Or always this version: flowers/V002.")] = "",
    every: Annotated[str, typer.Option(help="Time from one run to the next, 1m to 90d.")] = "1d",
    usage: Annotated[str, typer.Option(help="Which of the examples: test or validation.")] = "test",
    min_new: Annotated[int, typer.Option(help="New examples before anything is concluded.")] = 50,
    max_loss: Annotated[float, typer.Option(help="Loss of accuracy (or share of rmse) that is no alarm, 0 to 1.")] = 0.02,
    name: Annotated[str, typer.Option(help="Its name. Default: the endpoint's.")] = "",
) -> None:
    """Score an endpoint on newly labelled examples again and again; the first run starts at once.

    \b
    Example: modelyard watch add flowers --dataset flowers --every 12h --min-new 100
    """
    from google.protobuf.duration_pb2 import Duration

    from modelyard.cli.durations import seconds_of
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session
    from modelyard.client import last_part
    from modelyard.client.enums import enum_number
    from modelyard.pipeline.v1 import reevaluation_pb2
    from modelyard.type.v1 import learning_pb2

    interval = Duration()
    interval.FromNanoseconds(int(seconds_of(every, "--every") * 1e9))
    with session(common) as here:
        names = here.client.names
        wanted = reevaluation_pb2.Reevaluation(
            endpoint=names.endpoint(endpoint),
            usage=enum_number(learning_pb2.Usage, usage, "--usage"),
            interval=interval,
            min_new_examples=min_new,
            max_loss=max_loss,
        )
        if dataset:
            wanted.dataset = names.dataset(dataset)
        if dataset_version:
            wanted.dataset_version = names.dataset_version(dataset_version)
        made = here.client.reevaluations.create_reevaluation(wanted, reevaluation_id=name)
    print_json(plain(made)) if common.json else print(f"watching {last_part(made.endpoint)}: {last_part(made.name)}")


@app.command("list")
@with_common
def list_(common: Common) -> None:
    """List what is watched, with what the last run of each found.

    \b
    Example: modelyard watch list
    """
    from modelyard.cli.output import date, plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part, short

    with session(common) as here:
        found = list(here.client.reevaluations.list_reevaluations())
    if common.json:
        print_json({"reevaluations": [plain(each) for each in found]})
        return
    rows = [
        (
            last_part(each.name),
            last_part(each.endpoint),
            short(each.dataset or each.dataset_version),
            verdict(each),
            date(each.next_time),
        )
        for each in found
    ]
    print_table(("name", "endpoint", "data", "last", "next"), rows)


@app.command("show")
@with_common
def show(common: Common, name: Name) -> None:
    """Show what is watched and its last 20 runs, the newest first.

    \b
    Example: modelyard watch show flowers
    """
    from modelyard.cli.session import session

    with session(common) as here:
        found = here.client.reevaluations.get_reevaluation(name)
    print_reevaluation(common, found)


@app.command("run")
@with_common
def run(common: Common, name: Name) -> None:
    """Run now and wait for the end. Exit code 3 when it finds that the model has become worse.

    \b
    Example: modelyard watch run flowers
    """
    from modelyard.cli.session import session
    from modelyard.pipeline.v1 import reevaluation_pb2

    with session(common) as here:
        started = here.client.reevaluations.run_reevaluation(name)
        found, result = here.client.reevaluations.wait_reevaluation(name, started.name)
    print_reevaluation(common, found)
    if result.verdict == reevaluation_pb2.REEVALUATION_VERDICT_DRIFTED:
        raise typer.Exit(DRIFTED_STATUS)


@app.command("delete")
@with_common
def delete(common: Common, name: Name) -> None:
    """Stop watching; the evaluations that were made stay.

    \b
    Example: modelyard watch delete flowers
    """
    from modelyard.cli.output import print_json
    from modelyard.cli.session import session

    with session(common) as here:
        here.client.reevaluations.delete_reevaluation(name)
    if common.json:
        print_json({"deleted": name})


def verdict(found: reevaluation_pb2.Reevaluation) -> str:
    """What the last run said; empty before any."""
    return _said(found.results[0]) if found.results else ""


def print_reevaluation(common: Common, found: reevaluation_pb2.Reevaluation) -> None:
    """With its runs."""
    from modelyard.cli.output import date, plain, print_json, print_table
    from modelyard.client import last_part, short

    if common.json:
        print_json(plain(found))
        return
    data = short(found.dataset or found.dataset_version)
    print(f"{last_part(found.name)}: endpoint {last_part(found.endpoint)} on {data}; next run {date(found.next_time)}")
    rows = [
        (
            date(each.status.create_time),
            _said(each),
            last_part(each.dataset_version),
            each.new_examples,
            figure(each),
            each.advice or each.status.error.message,
        )
        for each in found.results
    ]
    if rows:
        print_table(("run", "found", "version", "new", "metric", "what to do"), rows)


def figure(result: reevaluation_pb2.ReevaluationResult) -> str:
    """accuracy 0.65 (0.58 to 0.71)"""
    metric = result.metric
    return f"{metric.name} {metric.value:.3g} ({metric.lower:.3g} to {metric.upper:.3g})" if metric.name else ""


def _said(result: reevaluation_pb2.ReevaluationResult) -> str:
    """OK, DRIFTED, NOT_ENOUGH_DATA; of a run that came to nothing its state."""
    from modelyard.cli.live import state_name
    from modelyard.cli.output import enum_name
    from modelyard.pipeline.v1 import reevaluation_pb2

    if result.verdict:
        return enum_name(reevaluation_pb2.ReevaluationVerdict.DESCRIPTOR, result.verdict)
    return state_name(result.status.state)
