"""`modelyard usage`."""

from __future__ import annotations

from modelyard.cli.options import Common, new_app, with_common

app = new_app()


@app.command(name="usage")
@with_common
def usage(common: Common) -> None:
    """What the project uses of its quotas, and who you are to the server.

    \b
    Example: modelyard usage
    """
    from modelyard.cli.output import print_json, print_table
    from modelyard.cli.session import session
    from modelyard.cli.sizes import spoken_bytes

    with session(common) as here:
        caller = here.client.access.get_caller()
        asked = {service: here.client.access.of(service).get_usage() for service in here.services()}
    first, *others = asked.values()
    one_process = all(other == first for other in others)
    found = {"all": first.quotas} if one_process else {service: usage.quotas for service, usage in asked.items()}
    if common.json:
        quotas = [
            {"service": service, "quota": one.quota, "limit": None if one.limit < 0 else one.limit, "used": one.used}
            for service, listed in found.items()
            for one in listed
        ]
        print_json({"principal": caller.principal, "roles": dict(caller.roles), "quotas": quotas})
        return
    print(f"you are {caller.principal}: {', '.join(f'{role} in {name}' for name, role in caller.roles.items()) or 'no role'}")
    rows = []
    for service, listed in found.items():
        for one in listed:
            if one.limit < 0 and not one.used:
                continue
            text = spoken_bytes if one.quota.endswith("_bytes") else str
            rows.append((service, one.quota, text(one.used), "no limit" if one.limit < 0 else text(one.limit)))
    print_table(("service", "quota", "used", "limit"), rows)
