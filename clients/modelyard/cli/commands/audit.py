"""`modelyard audit`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelyard.cli.options import Common, new_app, with_common

app = new_app()


@app.command(name="audit")
@with_common
def audit(
    common: Common,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, of the newest, of each service.")] = 50,
    everything: Annotated[bool, typer.Option("--everything", help="Of the whole server, not of the project alone.")] = False,
    refused: Annotated[bool, typer.Option("--refused", help="Only what was refused.")] = False,
    principal: Annotated[str, typer.Option(help="Only what this one did: user:anna.")] = "",
) -> None:
    """Who did what, and what was refused; for admins.

    \b
    Example: modelyard audit --refused
    """
    from modelyard.cli.output import plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part

    with session(common) as here:
        events: dict[str, Any] = {}
        for service in here.services():
            page = here.client.access.of(service).list_audit_events(
                everything=everything, principal=principal, refused=refused, page_size=limit
            )
            events |= {event.name: event for event in page.audit_events}
    found = sorted(events.values(), key=lambda event: event.create_time.ToNanoseconds(), reverse=True)
    if common.json:
        print_json({"audit_events": [plain(event) for event in found]})
        return
    rows = [
        (
            event.create_time.ToJsonString()[:19],
            event.principal,
            last_part(event.method),
            event.resource,
            event.code + (f" {event.reason}" if event.reason else ""),
            event.peer,
        )
        for event in found
    ]
    print_table(("when", "who", "what", "about", "how it ended", "from"), rows)
