"""`modelyard endpoint scale`: how many pods an endpoint has, and on which nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from modelyard.serving.v1 import serving_pb2

app = new_app()


@app.command("scale")
@with_common
def scale(
    common: Common,
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint's name.")],
    target: Annotated[str, typer.Option(help="Kind of node: cpu, gpu or edge.")] = "cpu",
    replicas: Annotated[str, typer.Option(help="Pods: 2, or 2:5 for 2 to 5 by their load; 0:5 with --idle; 0: none there.")] = "",
    cpu: Annotated[str | None, typer.Option(help="Processor that a pod asks for: 500m, 2.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory that a pod may use: 512Mi, 4Gi.")] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs of a pod.")] = None,
    idle: Annotated[str, typer.Option(help="All pods go after so long without a request: 10s to 7d, such as 15m.")] = "",
) -> None:
    """Set the pods of an endpoint on one kind of node; without options: show them.

    \b
    Example: modelyard endpoint scale flowers --target cpu --replicas 2:5
    """
    from modelyard.cli.durations import seconds_of
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session
    from modelyard.serving.v1 import serving_pb2

    idle_s = seconds_of(idle, "idle") if idle else None
    with session(common) as here:
        found = here.client.endpoints.get_endpoint(endpoint)
        if replicas or cpu is not None or memory is not None or gpus is not None or idle_s is not None:
            others = [one for one in found.placements if one.target != target]
            mine = next((one for one in found.placements if one.target == target), serving_pb2.Placement(target=target))
            least, most = _range(replicas) if replicas else (None, None)
            if idle_s is not None:
                mine.scale_to_zero_after.FromMilliseconds(round(1000 * idle_s))
                mine.min_replicas = 0 if least is None else least
            elif least:
                mine.ClearField("scale_to_zero_after")
            for name, value in {"min_replicas": least, "max_replicas": most, "cpu": cpu, "memory": memory, "gpus": gpus}.items():
                if value is not None:
                    setattr(mine, name, value)
            placed = [*others, mine] if most != 0 else others
            found = here.client.endpoints.update_endpoint(endpoint, placements=placed, etag=found.etag)
    if common.json:
        print_json(plain(found))
        return
    show_pods(found)


def show_pods(endpoint: serving_pb2.Endpoint) -> None:
    """The pods of an endpoint, and why one waits; nothing where there are none."""
    from modelyard.cli.output import enum_name, number, print_table
    from modelyard.serving.v1 import serving_pb2

    if endpoint.placement_statuses:
        rows = [
            (
                one.target,
                f"{one.ready} of {one.wanted}",
                f"{number(one.cold_start.seconds + one.cold_start.nanos / 1e9)} s" if one.HasField("cold_start") else "",
                one.direct_address,
            )
            for one in endpoint.placement_statuses
        ]
        print()
        print_table(("target", "pods ready", "cold start", "direct address"), rows)
    if endpoint.pods:
        kind = serving_pb2.EndpointPod.State.DESCRIPTOR
        pods = [
            (one.name, enum_name(kind, one.state).lower(), one.node, ", ".join(one.ready_versions), one.restarts, one.message)
            for one in endpoint.pods
        ]
        print()
        print_table(("pod", "state", "node", "answers for", "restarts", "why"), pods)


def _range(text: str) -> tuple[int, int]:
    """Least and most pods of "2" and "2:5"."""
    from modelyard.client.errors import InvalidArgument, Violation

    least, colon, most = text.partition(":")
    if least.isdigit() and (most.isdigit() or not colon):
        return int(least), int(most) if colon else int(least)
    message = f"replicas is {text!r}; give a number (2), or the least and the most (2:5)"
    violation = (Violation("replicas", message),)
    raise InvalidArgument(message, reason="INVALID_REPLICAS", values={"value": text}, violations=violation)
