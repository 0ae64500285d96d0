"""`modelyard export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.options import Common, Flavor, new_app, with_common

if TYPE_CHECKING:
    from modelyard.cli.exporting import Asked, Exported
    from modelyard.cli.session import Session
    from modelyard.exporter.v1 import exporter_pb2

app = new_app()


@app.command(name="export")
@with_common
def export(
    common: Common,
    model_version: Annotated[
        str, typer.Argument(metavar="MODEL_VERSION", help="Model version: flowers/V001 (flowers: its newest).")
    ],
    target: Annotated[
        str, typer.Option(help="Hardware it is for: cpu, cpu-1core, gpu, edge-arm64, mcu, or one of `modelyard target list`.")
    ] = "cpu",
    format: Annotated[
        str, typer.Option(help="onnx, litert, savedmodel, openvino, edge, torch-export. Default: the target's.")
    ] = "",
    precision: Annotated[str, typer.Option(help="fp32, fp16, int8 or dynamic-int8. Default: the target's.")] = "",
    max_size: Annotated[str, typer.Option(help="Largest model file: 200KB, 1.5MB. Chooses form and numbers by trying.")] = "",
    max_latency_ms: Annotated[
        float, typer.Option(show_default=False, help="Longest answer on the target (p95), up to 20000 ms.")
    ] = 0.0,
    max_loss: Annotated[
        float,
        typer.Option(
            show_default=False,
            help="Most that accuracy may fall against the float model (tables: share of the rmse). Default: 0.01.",
        ),
    ] = 0.0,
    qat: Annotated[bool, typer.Option("--qat", help="int8 by quantization-aware training.")] = False,
    prune_channels: Annotated[
        float, typer.Option(show_default=False, help="Share of each layer's channels to cut out, 0 to 0.9.")
    ] = 0.0,
    prune_weights: Annotated[
        float, typer.Option(show_default=False, help="Share of single weights to make zero, 0 to 0.99.")
    ] = 0.0,
    max_train_time: Annotated[str, typer.Option(help="Most time for --qat or pruning: 90s, 5m. Default: 5m.")] = "",
    floor: Annotated[
        list[str], typer.Option(metavar="METRIC=VALUE", help="What it must reach on the test examples; may be given again.")
    ] = [],  # noqa: B006
    instance_flavor: Flavor = "",
    no_evaluate: Annotated[bool, typer.Option("--no-evaluate", help="Only export: no scores, no verdict.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            "--output",
            metavar="FOLDER|FILE",
            help="Unpack the bundle into this folder; a name ending in .zip takes it whole.",
        ),
    ] = None,
) -> None:
    """Turn a model version into a bundle for its hardware; measure, score and judge the very bytes.

    The float model is exported and scored too, to compare with. With --max-size, --max-latency-ms or --max-loss (without --qat
    and pruning) form and numbers are chosen by trying, the cheapest first. Exit code 3 when the gate does not say DEPLOY; the
    export is there all the same.

    \b
    Example: modelyard export flowers/V001 --format litert --precision int8 --json

    \b
    Example: modelyard export flowers/V001 --target mcu -o flowers-mcu
    """
    from modelyard.cli.asking import floors_of, written_to
    from modelyard.cli.durations import seconds_of
    from modelyard.cli.exporting import Asked, made
    from modelyard.cli.session import session
    from modelyard.cli.sizes import bytes_of

    asked = Asked(
        model_version=model_version,
        target=target,
        format=format,
        precision=precision,
        max_size=bytes_of(max_size, "max_size") if max_size else 0,
        max_latency_ms=max_latency_ms,
        max_loss=max_loss,
        aware=qat,
        channels=prune_channels,
        weights=prune_weights,
        max_training_s=seconds_of(max_train_time, "max_training_time") if max_train_time else None,
        floors=floors_of(floor, None),
        instance_flavor=instance_flavor,
        evaluate=not no_evaluate,
    )
    if output is not None:
        written_to("--out", output, is_folder=output.suffix.lower() != ".zip")
    with session(common) as here:
        done = made(here, asked)
        if output is not None:
            fetch(here, done.export, output)
    _tell(common, done, asked, output)


def fetch(here: Session, done: exporter_pb2.Export, place: Path) -> None:
    """The bundle as one file where the place ends in .zip; else unpacked into a folder."""
    import tempfile

    from modelyard.cli.live import bar
    from modelyard.cli.output import note
    from modelyard.cli.unpack import unpack

    whole = place.suffix.lower() == ".zip"
    folder = place.parent if whole else place
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=folder) as temporary:
        with bar("download") as show:
            archive = here.client.artifacts.download(done.artifact, Path(temporary) / "bundle.zip", show)
        for path in [archive.replace(place)] if whole else unpack(archive, folder):
            note(f"wrote {path}")


def _tell(common: Common, done: Exported, asked: Asked, output: Path | None) -> None:
    from modelyard.cli.exits import REFUSED
    from modelyard.cli.exporting import export_document, print_export
    from modelyard.cli.output import print_json
    from modelyard.cli.results import refused

    if common.json:
        print_json({**export_document(done), "output": str(output) if output else ""})
    else:
        print_export(done)
    if done.decision is not None and refused(done.decision):
        raise typer.Exit(REFUSED)
