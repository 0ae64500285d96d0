"""`modelyard deploy`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from modelyard.cli.session import Session
    from modelyard.evaluator.v1 import evaluator_pb2
    from modelyard.exporter.v1 import exporter_pb2

app = new_app()

USUAL_MS: Final = 500


@app.command(name="deploy")
@with_common
def deploy(
    common: Common,
    export: Annotated[str, typer.Argument(metavar="EXPORT", help="The export, see `modelyard export`.")],
    endpoint: Annotated[
        str, typer.Option(help="Endpoint to deploy to; made when it does not exist. Default: named as the model.")
    ] = "",
    gate_decision: Annotated[
        str, typer.Option(help="Decision that allows it. Default: one is made from the newest evaluation.")
    ] = "",
    floor: Annotated[
        list[str], typer.Option(metavar="METRIC=VALUE", help="What it must reach on the test examples; may be given again.")
    ] = [],  # noqa: B006
    min_accuracy: Annotated[float | None, typer.Option(help="Short for --floor accuracy=X.")] = None,
    max_latency_ms: Annotated[
        int | None, typer.Option(help="Longest answer allowed (p95), 1 to 20000 ms. Default: 500 where it was measured.")
    ] = None,
    percent: Annotated[
        int | None, typer.Option(help="Share of the traffic it gets at once, 0 to 100; the others' shrink. Default: all of it.")
    ] = None,
    deployment: Annotated[
        str, typer.Option("--as", metavar="VERSION", help="Version callers name. Default: the model version's (V003).")
    ] = "",
) -> None:
    """Serve an export behind an endpoint, if the gate says yes; it is evaluated first when it was not.

    Exit code 3 when the gate says no.

    \b
    Example: modelyard deploy EXPORT --endpoint flowers --min-accuracy 0.85 --percent 10
    """
    from modelyard.cli.asking import floors_of, whole_number
    from modelyard.cli.session import session

    floors = floors_of(floor, min_accuracy)
    if max_latency_ms is not None:
        whole_number(max_latency_ms, 1, 20_000, "max_latency_ms", "milliseconds")
    if percent is not None:
        whole_number(percent, 0, 100, "percent", "percent of the traffic")
    with session(common) as here:
        found = here.client.exports.get_export(export)
        decision = (
            here.client.gate.get_gate_decision(gate_decision) if gate_decision else _decide(here, found, floors, max_latency_ms)
        )
        _refuse(decision)
        name = here.client.names.endpoint(endpoint or _default_endpoint(found))
        _deploy(here, name, found, decision, deployment, percent)


def _default_endpoint(export: exporter_pb2.Export) -> str:
    from modelyard.cli.asking import wrong
    from modelyard.client import last_part, parent_of

    if not export.model_version:
        raise wrong("endpoint", "", "endpoint is empty; an imported model has no model to be named as, so give --endpoint")
    return last_part(parent_of(export.model_version))


def _decide(
    here: Session, export: exporter_pb2.Export, floors: dict[str, float], max_latency_ms: int | None
) -> evaluator_pb2.GateDecision:
    from modelyard.cli.exporting import float_evaluation
    from modelyard.cli.live import job_bar
    from modelyard.cli.output import note
    from modelyard.type.v1 import job_pb2

    evaluations = here.client.evaluations
    done = next(
        (
            one
            for one in evaluations.list_evaluations(exports=[export.name])
            if one.export == export.name and one.status.state == job_pb2.JOB_STATE_SUCCEEDED
        ),
        None,
    )
    if done is None:
        note("the export has no evaluation; it is evaluated first")
        started = evaluations.create_evaluation(export.name)
        with job_bar("evaluate", "evaluation", lambda: evaluations.cancel_evaluation(started.name)) as show:
            done = evaluations.wait_evaluation(started.name, on_change=show)
    latency = export.latency if export.HasField("latency") else None
    parent = float_evaluation(here, export)
    return here.client.gate.create_gate_decision(
        done.name,
        floors=floors,
        latency=latency,
        max_latency_ms=max_latency_ms or (USUAL_MS if latency is not None else 0),
        parent_evaluation=parent.name if parent is not None else "",
        model_size_bytes=export.model_size_bytes,
    )


def _refuse(decision: evaluator_pb2.GateDecision) -> None:
    """Refused, with the reasons, unless the verdict is DEPLOY."""
    from modelyard.cli.exits import Refused
    from modelyard.cli.results import refused, verdict

    if refused(decision):
        message = f"the gate says {verdict(decision)}: {' '.join(decision.reasons)}"
        raise Refused(message, reason=verdict(decision), values={"gate_decision": decision.name})


def _deploy(
    here: Session,
    endpoint: str,
    export: exporter_pb2.Export,
    decision: evaluator_pb2.GateDecision,
    version: str,
    percent: int | None,
) -> None:
    import contextlib

    from modelyard.cli.output import plain, print_facts, print_json, print_table
    from modelyard.cli.results import asking
    from modelyard.cli.shares import share_rows
    from modelyard.client import AlreadyExists, last_part, short

    with contextlib.suppress(AlreadyExists):
        here.client.endpoints.create_endpoint(last_part(endpoint))
    made = here.client.endpoints.create_deployment(
        endpoint, export=export.name, gate_decision=decision.name, deployment_id=version, percent=percent
    )
    if here.common.json:
        print_json({**plain(made), "endpoint": endpoint})
        return
    print_facts({"endpoint": last_part(endpoint), "version": last_part(made.name), "model version": short(made.model_version)})
    if percent is not None:
        print()
        print_table(("version", "share", "", "state", "labels"), share_rows(here.client.endpoints.get_endpoint(endpoint)))
    print(f"\nAsk it: {asking(here, endpoint, export.dataset_version)}")
