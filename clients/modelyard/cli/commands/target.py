"""`modelyard target`."""

from __future__ import annotations

from typing import Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

app = new_app("List, create, delete: hardware that models are made for.\n\n\b\nExample: modelyard target list")


@app.command("list")
@with_common
def list_(common: Common) -> None:
    """List the targets: those that come with Modelyard, then the project's own.

    \b
    Example: modelyard target list
    """
    from modelyard.cli.output import enum_name, plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.cli.sizes import spoken_bytes
    from modelyard.client import last_part
    from modelyard.exporter.v1 import exporter_pb2

    with session(common) as here:
        found = list(here.client.targets.list_targets())
    if common.json:
        print_json({"targets": [plain(target) for target in found]})
        return
    rows = [
        (
            last_part(one.name),
            enum_name(exporter_pb2.Format.DESCRIPTOR, one.format).lower(),
            enum_name(exporter_pb2.Precision.DESCRIPTOR, one.precision).lower(),
            spoken_bytes(one.ram_bytes) if one.ram_bytes else "",
            spoken_bytes(one.flash_bytes) if one.flash_bytes else "",
            "here" if one.local else one.agent,
            one.display_name,
        )
        for one in found
    ]
    print_table(("target", "format", "precision", "ram", "flash", "measured", "what it is"), rows)


@app.command("create")
@with_common
def create(
    common: Common,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name: lower-case letters, digits and dashes.")],
    format: Annotated[
        str, typer.Option(help="Form of its models: onnx, litert, savedmodel, openvino, edge, torch-export.")
    ] = "onnx",
    precision: Annotated[str, typer.Option(help="fp32, fp16, int8 or dynamic-int8. Default: the widest the format has.")] = "",
    ram: Annotated[str, typer.Option(help="Memory for running a model: 256KiB, 512MB.")] = "",
    flash: Annotated[str, typer.Option(help="Room for the model file: 1MiB.")] = "",
    threads: Annotated[int, typer.Option(help="Threads one answer may use; 0: all.")] = 0,
    agent: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where `python -m modelyard.runtime.agent` runs on the device.")
    ] = "",
    accelerator: Annotated[str, typer.Option(help="Arm Ethos-U to compile for: ethos-u55-128. Only with --format edge.")] = "",
    description: Annotated[str, typer.Option(help="What it is, for people.")] = "",
) -> None:
    """Add hardware of your own. Without --agent its latency is never guessed: it stays unmeasured.

    \b
    Example: modelyard target create camera --format litert --precision int8 --agent 10.0.0.7:8990
    """
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session
    from modelyard.cli.sizes import bytes_of
    from modelyard.client import last_part
    from modelyard.client.enums import enum_number
    from modelyard.exporter.v1 import exporter_pb2

    target = exporter_pb2.Target(
        display_name=description,
        format=enum_number(exporter_pb2.Format, format, "target.format"),
        precision=enum_number(exporter_pb2.Precision, precision, "target.precision"),
        ram_bytes=bytes_of(ram, "target.ram_bytes") if ram else 0,
        flash_bytes=bytes_of(flash, "target.flash_bytes") if flash else 0,
        threads=threads,
        agent=agent,
        accelerator=accelerator,
    )
    with session(common) as here:
        made = here.client.targets.create_target(name, target)
    print_json(plain(made)) if common.json else print(f"target {last_part(made.name)}")


@app.command("delete")
@with_common
def delete(common: Common, name: Annotated[str, typer.Argument(metavar="NAME", help="A target of the project's own.")]) -> None:
    """Delete a target of the project's own; exports for it stay.

    \b
    Example: modelyard target delete camera
    """
    from modelyard.cli.output import print_json
    from modelyard.cli.session import session

    with session(common) as here:
        here.client.targets.delete_target(name)
    if common.json:
        print_json({"deleted": name})
