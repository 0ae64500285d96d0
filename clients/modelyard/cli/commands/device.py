"""`modelyard device`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from modelyard.serving.v1 import device_pb2

app = new_app("Enrol-token, list, show, label, revoke, delete.\n\n\b\nExample: modelyard device list")

Name = Annotated[str, typer.Argument(metavar="DEVICE", help="The device's name.")]
Labels = Annotated[list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label; may be given again.")]


@app.command("enroll-token", hidden=True)  # as it was called first
@app.command("enrol-token")
@with_common
def enrol_token(
    common: Common,
    name: Annotated[str, typer.Option(help="Names that the device may take: cam-7, or cam-*.")] = "",
    label: Labels = None,
    expires: Annotated[str, typer.Option(help="How long it is good: up to 90d.")] = "24h",
    replace: Annotated[bool, typer.Option("--replace", help="Also for a device that is there: its key is replaced.")] = False,
) -> None:
    """Create a one-time token for one device; it is shown this once.

    \b
    Example: modelyard device enrol-token --name 'cam-*' --label site=berlin
    """
    from datetime import UTC, datetime, timedelta

    from modelyard.cli.durations import seconds_of
    from modelyard.cli.output import note, plain, print_json
    from modelyard.cli.session import session

    until = datetime.now(UTC) + timedelta(seconds=seconds_of(expires, "expires"))
    with session(common) as here:
        made = here.client.devices.create_enrolment_token(
            name_pattern=name, labels=labels_of(label), expire_time=until, replace=replace
        )
    if common.json:
        print_json(plain(made))
        return
    print(made.token)
    note("On the device: put it into a file, then python -m modelyard.serving --follow HOST:PORT --enrol-token-file FILE")


@app.command("list")
@with_common
def list_(common: Common, label: Labels = None) -> None:
    """List the devices, newest first.

    \b
    Example: modelyard device list --label site=berlin
    """
    from modelyard.cli.output import date, plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part

    with session(common) as here:
        devices = list(here.client.devices.list_devices(labels=labels_of(label)))
    if common.json:
        print_json({"devices": [plain(device) for device in devices]})
        return
    rows = [
        (last_part(one.name), _state(one), _serves(one), date(one.last_seen_time), one.inventory.architecture, _labels(one))
        for one in devices
    ]
    print_table(("device", "state", "is to serve", "last seen", "processor", "labels"), rows)


@app.command("show")
@with_common
def show(common: Common, device: Name) -> None:
    """Show a device: what it is made of, what it is to serve, and how that fares.

    \b
    Example: modelyard device show cam-7
    """
    from modelyard.cli.output import date, enum_name, plain, print_facts, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part
    from modelyard.serving.v1 import fleet_pb2

    with session(common) as here:
        found = here.client.devices.get_device(device)
    if common.json:
        print_json(plain(found))
        return
    made = found.inventory
    facts = {
        "device": last_part(found.name),
        "state": _state(found),
        "last seen": date(found.last_seen_time),
        "enrolled": date(found.enrol_time),
        "description": found.description,
        "labels": _labels(found),
        "system": made.os,
        "processor": f"{made.processor}, {made.cores} cores, {made.architecture}",
        "memory": f"{made.memory_bytes >> 20} MiB",
        "disk": f"{made.disk_free_bytes >> 20} of {made.disk_bytes >> 20} MiB free",
        "runtimes": ", ".join(f"{one.name} {one.version}" for one in made.runtimes),
        "accelerators": ", ".join(made.accelerators),
        "modelyard": made.modelyard_version,
        "message": found.report.message,
    }
    print_facts(facts)
    print()
    state = fleet_pb2.FollowedVersion.State.DESCRIPTOR
    rows = [
        (
            last_part(one.endpoint),
            one.version,
            enum_name(state, one.state).lower(),
            one.statistics.successes,
            one.statistics.failures,
            one.bundle_sha256[:12],
            one.message,
        )
        for one in found.report.versions
    ]
    print_table(("endpoint", "version", "state", "answered", "failed", "sha256", "message"), rows)


@app.command("label")
@with_common
def label(
    common: Common,
    device: Name,
    changes: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="Labels to set; KEY= takes one away.")],
    description: Annotated[str | None, typer.Option(help="Free text.")] = None,
) -> None:
    """Set or take away labels of a device.

    \b
    Example: modelyard device label cam-7 site=berlin floor=
    """
    from modelyard.cli.output import note, plain, print_json
    from modelyard.cli.session import session

    given = labels_of(changes)
    with session(common) as here:
        found = here.client.devices.get_device(device)
        wanted = {key: value for key, value in {**found.labels, **given}.items() if value}
        changed = here.client.devices.update_device(device, labels=wanted, description=description, etag=found.etag)
    if common.json:
        print_json(plain(changed))
        return
    note(f"labels of {device}: {_labels(changed)}")


@app.command("revoke")
@with_common
def revoke(common: Common, device: Name) -> None:
    """Refuse a device from now on; what it serves it goes on serving.

    \b
    Example: modelyard device revoke cam-7
    """
    from modelyard.cli.output import note, plain, print_json
    from modelyard.cli.session import session

    with session(common) as here:
        changed = here.client.devices.revoke_device(device)
    if common.json:
        print_json(plain(changed))
        return
    note(f"revoked {device}; it can enrol again with a token made with --replace")


@app.command("delete")
@with_common
def delete(common: Common, device: Name) -> None:
    """Forget a device; it is refused from now on.

    \b
    Example: modelyard device delete cam-7
    """
    from modelyard.cli.output import note, print_json
    from modelyard.cli.session import session

    with session(common) as here:
        name = here.client.names.device(device)
        here.client.devices.delete_device(device)
    if common.json:
        print_json({"deleted": name})
    note(f"deleted {device}")


def labels_of(given: list[str] | None) -> dict[str, str]:
    """KEY=VALUE words as a mapping. Raises InvalidArgument naming the one that is none."""
    from modelyard.client.errors import InvalidArgument, Violation

    found = {}
    for word in given or ():
        key, sign, value = word.partition("=")
        if not sign or not key:
            message = f"label is {word!r}; give KEY=VALUE"
            raise InvalidArgument(
                message, reason="INVALID_LABEL", values={"value": word}, violations=(Violation("label", message),)
            )
        found[key] = value
    return found


def _state(device: device_pb2.Device) -> str:
    from modelyard.cli.output import enum_name
    from modelyard.serving.v1 import device_pb2

    return enum_name(device_pb2.Device.State.DESCRIPTOR, device.state).lower()


def _serves(device: device_pb2.Device) -> str:
    from modelyard.client import last_part

    return ", ".join(f"{last_part(one.endpoint)}/{one.version}" for one in device.assignments)


def _labels(device: device_pb2.Device) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(device.labels.items()))
