"""`modelyard endpoint set`: what callers are known by, and when a change of traffic is taken back by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from modelyard.serving.v1 import serving_pb2

app = new_app()


@app.command("set")
@with_common
def set_(
    common: Common,
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint's name.")],
    display_name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    sticky_header: Annotated[
        str | None, typer.Option(help="Header whose value keeps a caller on one version; empty: the request's id does.")
    ] = None,
    rollback: Annotated[
        bool | None, typer.Option("--rollback/--no-rollback", help="Take changes of traffic back by themselves, or do not.")
    ] = None,
    window: Annotated[str, typer.Option(help="How long after a change: 1s to 24h, such as 10m.")] = "",
    max_error_rate: Annotated[float | None, typer.Option(help="Largest share of requests that may fail, 0 to 1.")] = None,
    max_latency_ratio: Annotated[float | None, typer.Option(help="Largest p99, in multiples of before, 1 or more.")] = None,
    min_requests: Annotated[int | None, typer.Option(help="Requests before anything is concluded, 1 or more.")] = None,
) -> None:
    """Set what callers are known by, and when a change of traffic is taken back by itself; without options: show it.

    \b
    Example: modelyard endpoint set flowers --sticky-header x-user --max-error-rate 0.05
    """
    from modelyard.cli.durations import seconds_of
    from modelyard.cli.session import session

    window_s = seconds_of(window, "window") if window else None
    with session(common) as here:
        found = here.client.endpoints.get_endpoint(endpoint)
        policy, changed = found.rollback_policy, window_s is not None or rollback is not None
        if window_s is not None:
            policy.window.FromMilliseconds(round(1000 * window_s))
        if rollback is not None:
            policy.disabled = not rollback
        limits = {"max_error_rate": max_error_rate, "max_latency_ratio": max_latency_ratio, "min_requests": min_requests}
        for name, value in limits.items():
            if value is not None:
                setattr(policy, name, value)
                changed = True
        if changed or display_name is not None or sticky_header is not None:
            found = here.client.endpoints.update_endpoint(
                endpoint,
                display_name=display_name,
                sticky_header=sticky_header,
                rollback_policy=policy if changed else None,
                etag=found.etag,
            )
    _show(common, found)


def _show(common: Common, endpoint: serving_pb2.Endpoint) -> None:
    from modelyard.cli.durations import spoken
    from modelyard.cli.output import number, plain, print_facts, print_json
    from modelyard.client import last_part

    if common.json:
        print_json(plain(endpoint))
        return
    policy = endpoint.rollback_policy
    limits = (
        f"for {spoken(policy.window.seconds)} after a change: more than {number(100 * policy.max_error_rate)} % failed, "
        f"p99 above {number(policy.max_latency_ratio)} times before, from {policy.min_requests} requests on"
    )
    facts = {
        "endpoint": last_part(endpoint.name),
        "name for people": endpoint.display_name,
        "callers stay by": endpoint.sticky_header or "the request's id",
        "rollback": "never by itself" if policy.disabled else limits,
    }
    print_facts(facts)
