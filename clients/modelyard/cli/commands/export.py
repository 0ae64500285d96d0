"""`modelyard export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
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
    format: Annotated[str, typer.Option(help="onnx.")] = "onnx",
    precision: Annotated[str, typer.Option(help="fp32.")] = "fp32",
    target: Annotated[str, typer.Option(help="Where its latency is measured: cpu or cpu-1core.")] = "cpu",
    output: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Fetch the bundle and unpack it there.")] = None,
) -> None:
    """Turn a model version into a bundle: the model with its pre-processing, labels and test vectors; measure its latency.

    \b
    Example: modelyard export flowers/V001 --output flowers-bundle
    """
    from modelyard.cli.live import job_bar
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session

    with session(common) as here:
        resolved = here.client.models.get_model_version(model_version).name
        started = here.client.exports.create_export(resolved, format=format, precision=precision, target=target)
        with job_bar("export", "export") as show:
            done = here.client.exports.wait_export(started.name, on_change=show)
        if output is not None:
            _fetch(here, done, output)
    print_json({**plain(done), "output": str(output) if output else ""}) if common.json else _print_export(done)


def _fetch(here: Session, done: exporter_pb2.Export, folder: Path) -> None:
    import tempfile

    from modelyard.cli.live import bar
    from modelyard.cli.output import note
    from modelyard.cli.unpack import unpack

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=folder) as temporary:
        with bar("download") as show:
            archive = here.client.artifacts.download(done.artifact, Path(temporary) / "bundle.zip", show)
        for path in unpack(archive, folder):
            note(f"wrote {path}")


def _print_export(done: exporter_pb2.Export) -> None:
    from modelyard.cli.output import number, print_facts
    from modelyard.client import last_part, short

    parity, latency = done.parity, done.latency
    agreement = f"on {parity.example_count} examples, same class in {100 * parity.label_agreement:.1f}%"
    facts = {
        "export": last_part(done.name),
        "model version": short(done.model_version),
        "sha256": done.artifact.sha256,
        "size": f"{done.artifact.size_bytes / 1e6:.2f} MB",
        "parity": f"largest difference {number(parity.max_abs_difference)} (allowed {number(parity.tolerance)}) {agreement}",
        "latency": f"{number(latency.p50_ms)} ms median, {number(latency.p95_ms)} ms p95 on {latency.target}",
        "hardware": latency.hardware,
    }
    print_facts(facts)
