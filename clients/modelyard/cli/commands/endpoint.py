"""`modelyard endpoint`."""

from __future__ import annotations

from typing import Annotated

import typer

from modelyard.cli.commands import endpoint_pods, endpoint_settings, endpoint_traffic
from modelyard.cli.options import Common, new_app, with_common

app = new_app(
    "List, show, set, scale, traffic, label, shadow, rollback, history, stats, delete, events.\n\n\b\n"
    "Example: modelyard endpoint list"
)
for part in (endpoint_traffic, endpoint_settings, endpoint_pods):
    app.registered_commands += part.app.registered_commands

Name = Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint's name.")]


@app.command("list")
@with_common
def list_(common: Common) -> None:
    """List the endpoints, newest first.

    \b
    Example: modelyard endpoint list
    """
    from modelyard.cli.output import changed, plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part

    with session(common) as here:
        endpoints = list(here.client.endpoints.list_endpoints())
    if common.json:
        print_json({"endpoints": [plain(endpoint) for endpoint in endpoints]})
        return
    rows = [(last_part(one.name), one.default_version, len(one.deployments), changed(one)) for one in endpoints]
    print_table(("endpoint", "answers with", "versions", "changed"), rows)


@app.command("show")
@with_common
def show(common: Common, endpoint: Name) -> None:
    """Show an endpoint with the versions it serves, and who of them answers how much.

    \b
    Example: modelyard endpoint show flowers
    """
    from modelyard.cli.output import date, plain, print_facts, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.cli.shares import share_rows
    from modelyard.client import last_part, short

    with session(common) as here:
        found = here.client.endpoints.get_endpoint(endpoint)
    if common.json:
        print_json(plain(found))
        return
    facts = {
        "endpoint": last_part(found.name),
        "answers with": found.default_version,
        "sticky header": found.sticky_header,
        "created": date(found.create_time),
    }
    print_facts(facts)
    rows = [
        (*shares, short(one.model_version), one.artifact.sha256[:12], date(one.create_time), one.error_message)
        for shares, one in zip(share_rows(found), found.deployments, strict=True)
    ]
    print()
    print_table(("version", "share", "", "state", "labels", "model version", "sha256", "deployed", "error"), rows)
    endpoint_pods.show_pods(found)


@app.command("delete")
@with_common
def delete(
    common: Common,
    endpoint: Annotated[
        str, typer.Argument(metavar="ENDPOINT", help="An endpoint (flowers), or one version of it (flowers/V001).")
    ],
) -> None:
    """Delete an endpoint, or take one version off it. The record of events stays.

    \b
    Example: modelyard endpoint delete flowers/V001
    """
    from modelyard.cli.output import note, print_json
    from modelyard.cli.session import session

    with session(common) as here:
        if "/deployments/" in endpoint or (not endpoint.startswith("projects/") and "/" in endpoint):
            name = here.client.names.deployment(endpoint)
            here.client.endpoints.delete_deployment(name)
        else:
            name = here.client.names.endpoint(endpoint)
            here.client.endpoints.delete_endpoint(name)
    if common.json:
        print_json({"deleted": name})
    note(f"deleted {endpoint}")


@app.command("events")
@with_common
def events(common: Common, endpoint: Name) -> None:
    """List what served when, newest first.

    \b
    Example: modelyard endpoint events flowers
    """
    from modelyard.cli.output import date, enum_name, plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part
    from modelyard.serving.v1 import serving_pb2

    with session(common) as here:
        found = list(here.client.endpoints.list_deployment_events(endpoint))
    if common.json:
        print_json({"deployment_events": [plain(event) for event in found]})
        return
    kind = serving_pb2.DeploymentEvent.Kind.DESCRIPTOR
    rows = [
        (one.sequence, date(one.time), enum_name(kind, one.kind).lower(), last_part(one.deployment), one.artifact_sha256[:12])
        for one in found
    ]
    print_table(("number", "time", "what", "version", "sha256"), rows)
