"""`modelyard rollout`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from modelyard.serving.v1 import device_pb2

app = new_app("Create, list, show, pause, resume, cancel, revert.\n\n\b\nExample: modelyard rollout list")

Name = Annotated[str, typer.Argument(metavar="ROLLOUT", help="The roll-out's name.")]


@app.command("create")
@with_common
def create(
    common: Common,
    deployment: Annotated[str, typer.Argument(metavar="ENDPOINT/VERSION", help="What devices are to serve: flowers/V003.")],
    device: Annotated[list[str] | None, typer.Option(help="A device, by its name; may be given again. None: every one.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Devices that have it; may be given again.")
    ] = None,
    percent: Annotated[int, typer.Option(help="Only so many percent of them.", min=1, max=100)] = 100,
    stages: Annotated[str, typer.Option(help="Percent that have it after each stage: 10,50,100.")] = "100",
    wait: Annotated[str, typer.Option(help="How long a stage that went well is left alone: 1h.")] = "",
    max_failures: Annotated[int, typer.Option(help="Devices that may fail.", min=0)] = 0,
    on_failure: Annotated[str, typer.Option(help="When more do: pause or revert.")] = "pause",
    watch: Annotated[str, typer.Option(help="How long each device watches over it.")] = "60s",
    allow_downgrade: Annotated[bool, typer.Option("--allow-downgrade", help="Devices may go to an older version.")] = False,
    name: Annotated[str, typer.Option(help="The roll-out's name; otherwise one is made.")] = "",
) -> None:
    """Bring a version to devices, in stages.

    \b
    Example: modelyard rollout create flowers/V003 --label site=berlin --stages 10,50,100 --wait 1h
    """
    from modelyard.cli.commands.device import labels_of
    from modelyard.cli.durations import seconds_of
    from modelyard.cli.session import session
    from modelyard.serving.v1 import device_pb2, fleet_pb2

    trial = fleet_pb2.Trial(max_error_rate=0.05, min_requests=20)
    trial.window.FromMilliseconds(round(1000 * seconds_of(watch, "watch")))
    chosen = "ON_FAILURE_" + _one_of("on_failure", on_failure, ("pause", "revert")).upper()
    with session(common) as here:
        names = here.client.names
        selector = device_pb2.DeviceSelector(
            devices=[names.device(one) for one in device or ()], labels=labels_of(label), percent=0 if percent == 100 else percent
        )
        wanted = device_pb2.Rollout(
            deployment=names.deployment(deployment),
            selector=selector,
            stages=_stages(stages),
            max_failures=max_failures,
            on_failure=device_pb2.Rollout.OnFailure.Value(chosen),
            trial=trial,
            downgrade_allowed=allow_downgrade,
        )
        if wait:
            wanted.wait.FromMilliseconds(round(1000 * seconds_of(wait, "wait")))
        made = here.client.devices.create_rollout(wanted, rollout_id=name)
    _print(common, made)


@app.command("list")
@with_common
def list_(common: Common) -> None:
    """List the roll-outs, newest first.

    \b
    Example: modelyard rollout list
    """
    from modelyard.cli.output import date, plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part, short

    with session(common) as here:
        found = list(here.client.devices.list_rollouts())
    if common.json:
        print_json({"rollouts": [plain(rollout) for rollout in found]})
        return
    rows = [
        (last_part(one.name), short(one.deployment), _state(one), _counts(one), date(one.create_time), one.state_message)
        for one in found
    ]
    print_table(("roll-out", "brings", "state", "devices", "created", "message"), rows)


@app.command("show")
@with_common
def show(common: Common, rollout: Name) -> None:
    """Show a roll-out and how far each device is.

    \b
    Example: modelyard rollout show r1
    """
    from modelyard.cli.session import session

    with session(common) as here:
        found = here.client.devices.get_rollout(rollout)
    _print(common, found)


@app.command("pause")
@with_common
def pause(common: Common, rollout: Name) -> None:
    """Begin nothing more; devices that were told go on.

    \b
    Example: modelyard rollout pause r1
    """
    from modelyard.cli.session import session

    with session(common) as here:
        found = here.client.devices.pause_rollout(rollout)
    _print(common, found)


@app.command("resume")
@with_common
def resume(common: Common, rollout: Name) -> None:
    """Go on; failures until now are forgiven.

    \b
    Example: modelyard rollout resume r1
    """
    from modelyard.cli.session import session

    with session(common) as here:
        found = here.client.devices.resume_rollout(rollout)
    _print(common, found)


@app.command("cancel")
@with_common
def cancel(common: Common, rollout: Name) -> None:
    """End it: devices that confirmed the version keep it, the others what they had.

    \b
    Example: modelyard rollout cancel r1
    """
    from modelyard.cli.session import session

    with session(common) as here:
        found = here.client.devices.cancel_rollout(rollout)
    _print(common, found)


@app.command("revert")
@with_common
def revert(common: Common, rollout: Name, reason: Annotated[str, typer.Option(help="Why, for the record.")] = "") -> None:
    """Tell every device of it to go back to what it had.

    \b
    Example: modelyard rollout revert r1 --reason 'too many false alarms'
    """
    from modelyard.cli.session import session

    with session(common) as here:
        found = here.client.devices.revert_rollout(rollout, reason=reason)
    _print(common, found)


def _print(common: Common, rollout: device_pb2.Rollout) -> None:
    from modelyard.cli.output import enum_name, plain, print_facts, print_json, print_table
    from modelyard.client import last_part, short
    from modelyard.serving.v1 import device_pb2

    if common.json:
        print_json(plain(rollout))
        return
    facts = {
        "roll-out": last_part(rollout.name),
        "brings": short(rollout.deployment),
        "state": _state(rollout),
        "message": rollout.state_message,
        "stage": f"{rollout.stage + 1} of {len(rollout.stages)} ({', '.join(f'{one} %' for one in rollout.stages)})",
    }
    print_facts(facts)
    print()
    progress = device_pb2.RolloutDevice.State.DESCRIPTOR
    rows = [
        (last_part(one.device), enum_name(progress, one.state).lower(), one.previous_version, one.message)
        for one in rollout.devices
    ]
    print_table(("device", "state", "had", "message"), rows)


def _state(rollout: device_pb2.Rollout) -> str:
    from modelyard.cli.output import enum_name
    from modelyard.serving.v1 import device_pb2

    return enum_name(device_pb2.Rollout.State.DESCRIPTOR, rollout.state).lower()


def _counts(rollout: device_pb2.Rollout) -> str:
    from modelyard.serving.v1 import device_pb2

    confirmed = sum(one.state == device_pb2.RolloutDevice.STATE_CONFIRMED for one in rollout.devices)
    return f"{confirmed} of {len(rollout.devices)} confirmed"


def _stages(text: str) -> list[int]:
    from modelyard.client.errors import InvalidArgument, Violation

    try:
        return [int(part) for part in text.replace("%", "").split(",")]
    except ValueError:
        message = f"stages is {text!r}; give rising percentages, the last of them 100: 10,50,100"
        raise InvalidArgument(
            message, reason="INVALID_STAGES", values={"value": text}, violations=(Violation("stages", message),)
        ) from None


def _one_of(field: str, value: str, known: tuple[str, ...]) -> str:
    from modelyard.client.errors import InvalidArgument, Violation

    if value not in known:
        message = f"{field} is {value!r}; give {' or '.join(known)}"
        raise InvalidArgument(message, reason="INVALID_VALUE", values={"value": value}, violations=(Violation(field, message),))
    return value
