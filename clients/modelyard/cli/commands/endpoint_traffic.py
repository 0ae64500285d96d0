"""`modelyard endpoint traffic`, `label`, `shadow`, `rollback`, `history` and `stats`: who answers, and who did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from modelyard.cli.session import Session
    from modelyard.serving.v1 import serving_pb2

app = new_app()

Name = Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint's name.")]


@app.command("traffic")
@with_common
def traffic(
    common: Common,
    endpoint: Name,
    shares: Annotated[
        list[str] | None, typer.Argument(metavar="[VERSION=PERCENT]...", help="Shares that sum to 100. None: show them.")
    ] = None,
) -> None:
    """Show or change who answers requests that name no version. Callers of versions that keep their share stay with them.

    \b
    Example: modelyard endpoint traffic flowers V003=90 V004=10
    """
    from modelyard.cli.session import session
    from modelyard.cli.shares import shares_of

    wanted = shares_of(shares) if shares else None
    with session(common) as here:
        endpoints = here.client.endpoints
        found = endpoints.get_endpoint(endpoint) if wanted is None else endpoints.update_endpoint(endpoint, traffic=wanted)
    _show(common, found)


@app.command("label")
@with_common
def label(
    common: Common,
    endpoint: Name,
    labels: Annotated[list[str], typer.Argument(metavar="LABEL=VERSION...", help="Labels to set; LABEL= takes one away.")],
) -> None:
    """Give versions other names, under which callers may ask for them.

    \b
    Example: modelyard endpoint label flowers canary=V004 old=
    """
    from modelyard.cli.session import session
    from modelyard.cli.shares import labels_of

    given = labels_of(labels)
    with session(common) as here:
        before = here.client.endpoints.get_endpoint(endpoint)
        all_ = {one.label: one.deployment for one in before.labels} | given
        wanted = {name: version for name, version in all_.items() if version}
        found = here.client.endpoints.update_endpoint(endpoint, labels=wanted, etag=before.etag)
    _show(common, found)


@app.command("shadow")
@with_common
def shadow(
    common: Common,
    endpoint: Name,
    version: Annotated[str, typer.Argument(metavar="[VERSION]", help="Version to ask beside. None: show how it compares.")] = "",
    percent: Annotated[int, typer.Option(help="Percent of the requests it is asked too, 1 to 100.")] = 100,
    off: Annotated[bool, typer.Option("--off", help="Ask nobody beside any more.")] = False,
) -> None:
    """Ask a version beside the one that answers, and compare what they say; callers notice nothing of it.

    \b
    Example: modelyard endpoint shadow flowers V004 --percent 20
    """
    from modelyard.cli.asking import whole_number, wrong
    from modelyard.cli.session import session
    from modelyard.serving.v1 import serving_pb2

    if off and version:
        raise wrong("shadow", version, "give a version or --off, not both")
    whole_number(percent, 1, 100, "percent", "percent")
    with session(common) as here:
        if off:
            _show(common, here.client.endpoints.update_endpoint(endpoint, no_shadow=True))
        elif version:
            wanted = serving_pb2.Shadow(deployment=version, percent=percent)
            _show(common, here.client.endpoints.update_endpoint(endpoint, shadow=wanted))
        else:
            _show_report(common, here.client.endpoints.get_shadow_report(endpoint))


@app.command("rollback")
@with_common
def rollback(
    common: Common,
    endpoint: Name,
    reason: Annotated[str, typer.Option(help="Why, for the record; at most 500 characters.")] = "",
) -> None:
    """Put traffic and labels back to what they were before their last change, at once. Again: forward.

    \b
    Example: modelyard endpoint rollback flowers --reason "customers complain"
    """
    from modelyard.cli.session import session

    with session(common) as here:
        found = here.client.endpoints.rollback_endpoint(endpoint, reason=reason)
    _show(common, found)


@app.command("history")
@with_common
def history(
    common: Common,
    endpoint: Name,
    at: Annotated[str, typer.Option(metavar="TIME", help="Who answered then, by which bytes: 2026-11-21T14:30.")] = "",
) -> None:
    """What changed who answers, newest first; with --at the versions that answered at a time, and the sha256 of their bytes.

    \b
    Example: modelyard endpoint history flowers --at 2026-11-21T14:30
    """
    from modelyard.cli.session import session
    from modelyard.cli.shares import moment

    time = moment(at) if at else None
    with session(common) as here:
        events = list(here.client.endpoints.list_deployment_events(endpoint, page_size=1000))
    if time is None:
        _show_events(common, events)
        return
    from dataclasses import asdict

    from modelyard.cli.output import note, print_json, print_table
    from modelyard.cli.shares import answering_rows
    from modelyard.client.history import answering_at

    found = answering_at(events, time)
    if common.json:
        print_json({"time": time.isoformat(), "answering": [asdict(one) for one in found.values()]})
        return
    if not found:
        note(f"nothing was deployed at {time:%Y-%m-%d %H:%M:%S %Z}")
        return
    print_table(("version", "share", "", "state", "sha256"), answering_rows(found))


@app.command("stats")
@with_common
def stats(
    common: Common,
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="An endpoint (flowers), or one version (flowers/V001).")],
) -> None:
    """How the versions of an endpoint fare on this server: requests, failures, latency, memory, drift.

    \b
    Example: modelyard endpoint stats flowers
    """
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session

    with session(common) as here:
        found = _statistics(here, endpoint)
    if common.json:
        print_json({"deployments": [plain(one) for one in found]})
        return
    _show_statistics(found)


def _statistics(here: Session, endpoint: str) -> list[serving_pb2.DeploymentStatistics]:
    """Of one version, or of all that are loaded."""
    from modelyard.serving.v1 import serving_pb2

    client = here.client.endpoints
    if "/deployments/" in endpoint or (not endpoint.startswith("projects/") and "/" in endpoint):
        return [client.get_deployment_statistics(endpoint)]
    loaded = (serving_pb2.Deployment.STATE_READY, serving_pb2.Deployment.STATE_UNHEALTHY)
    return [
        client.get_deployment_statistics(one.name) for one in client.get_endpoint(endpoint).deployments if one.state in loaded
    ]


def _show_statistics(found: list[serving_pb2.DeploymentStatistics]) -> None:
    from modelyard.cli.output import enum_name, number, print_table
    from modelyard.cli.sizes import spoken_bytes
    from modelyard.client import last_part
    from modelyard.serving.v1 import serving_pb2

    columns = ("version", "answered", "failed", "examples", "calls", "p50 ms", "p99 ms", "crashes", "memory")
    rows = [
        (
            last_part(one.deployment),
            one.successes,
            one.failures,
            one.examples,
            one.executions,
            number(one.p50_ms),
            number(one.p99_ms),
            one.crashes,
            spoken_bytes(one.memory_bytes),
        )
        for one in found
    ]
    print_table(columns, rows)
    levels, ways = serving_pb2.Drift.Level.DESCRIPTOR, serving_pb2.Drift.Direction.DESCRIPTOR
    drift = [
        (
            last_part(one.deployment),
            enum_name(ways, each.direction).lower(),
            each.feature,
            number(each.score),
            enum_name(levels, each.level).lower().replace("_", " "),
            each.note,
        )
        for one in found
        for each in one.drift
    ]
    if drift:
        print()
        print_table(("version", "way", "of", "drift", "level", "what"), drift)


def _show(common: Common, endpoint: serving_pb2.Endpoint) -> None:
    """Who answers, as bars."""
    from modelyard.cli.output import plain, print_json, print_table
    from modelyard.cli.shares import share_rows

    if common.json:
        print_json(plain(endpoint))
        return
    print_table(("version", "share", "", "state", "labels"), share_rows(endpoint))


def _show_report(common: Common, report: serving_pb2.ShadowReport) -> None:
    from modelyard.cli.output import date, number, plain, print_facts, print_json

    if common.json:
        print_json(plain(report))
        return
    agreed = f"{report.agreed} of {report.examples} ({report.agreed / report.examples:.1%})" if report.examples else "nothing yet"
    print_facts(
        {
            "shadow": report.deployment,
            "since": date(report.start_time),
            "asked": report.requests,
            "could not answer": report.failures,
            "left out, busy": report.skipped,
            "agreed": agreed,
            "difference": f"{number(report.mean_difference)} in the mean, {number(report.max_difference)} at most",
            "p99": f"{number(report.p99_ms)} ms; who answered {number(report.answering_p99_ms)} ms",
        }
    )


def _show_events(common: Common, events: list[serving_pb2.DeploymentEvent]) -> None:
    from modelyard.cli.output import date, enum_name, plain, print_json, print_table
    from modelyard.cli.shares import share_text
    from modelyard.client import last_part
    from modelyard.serving.v1 import serving_pb2

    if common.json:
        print_json({"deployment_events": [plain(event) for event in events]})
        return
    kind = serving_pb2.DeploymentEvent.Kind.DESCRIPTOR
    rows = [
        (
            date(one.time),
            enum_name(kind, one.kind).lower().replace("_", " "),
            last_part(one.deployment),
            share_text(one.traffic),
            one.detail,
        )
        for one in events
    ]
    print_table(("time", "what", "version", "shares after it", "detail"), rows)
