"""`modelyard model`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from modelyard.cli.session import Session

app = new_app("List, show, lineage, import.\n\n\b\nExample: modelyard model show flowers/V001")


@app.command("list")
@with_common
def list_(common: Common) -> None:
    """List the models, newest first.

    \b
    Example: modelyard model list
    """
    from modelyard.cli.output import changed, plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part

    with session(common) as here:
        models = list(here.client.models.list_models())
    if common.json:
        print_json({"models": [plain(model) for model in models]})
        return
    print_table(
        ("model", "latest version", "changed"),
        [(last_part(one.name), last_part(one.latest_version), changed(one)) for one in models],
    )


@app.command("show")
@with_common
def show(
    common: Common,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model (flowers) or a version of it (flowers/V001, flowers/latest).")
    ],
) -> None:
    """Show a model with its versions, or a version with how it was trained.

    \b
    Example: modelyard model show flowers/V001
    """
    from modelyard.cli.session import session

    with session(common) as here:
        if "/versions/" in model or (not model.startswith("projects/") and model.count("/") == 1):
            _show_version(here, model)
        else:
            _show_model(here, model)


@app.command("lineage")
@with_common
def lineage(
    common: Common,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model version: flowers/V001, or flowers for its newest.")],
) -> None:
    """Show what a model version was trained on and started from, and which exports, evaluations and endpoints stand on it.

    \b
    Example: modelyard model lineage flowers/V001
    """
    from modelyard.cli.lineage import Known, print_lineage
    from modelyard.cli.session import session

    with session(common) as here:
        found = here.client.models.get_model_version(model)
        print_lineage(here, Known(here.client).model_with_origin(found))


@app.command("import")
@with_common
def import_(
    common: Common,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="A model from elsewhere: .onnx, .tflite, .pt2, or an MLflow model's folder (flavor onnx)."
        ),
    ],
    dataset_version: Annotated[str, typer.Option(help="Version whose examples it can answer: flowers/V001.")],
    task: Annotated[
        str, typer.Option(help="image_classification, tabular_classification or tabular_regression.")
    ] = "image_classification",
    classes: Annotated[str, typer.Option(help="Names of its classes, in the order of its outputs, with commas between.")] = "",
    classes_file: Annotated[Path | None, typer.Option(help="The same, one a line.")] = None,
    pixel_scale: Annotated[float, typer.Option(help="What pixels 0 to 255 are multiplied with before they enter.")] = 1.0,
    pixel_offset: Annotated[float, typer.Option(help="What is added after that.")] = 0.0,
    licence: Annotated[str, typer.Option(help="Where the model comes from, and its licence.")] = "",
    target: Annotated[str, typer.Option(help="Hardware its latency is measured on, see `modelyard target list`.")] = "",
) -> None:
    """Take in a model file from elsewhere: checked, measured, with test vectors. It carries no history, so it must be evaluated
    (`modelyard deploy EXPORT` does) before it may be deployed.

    \b
    Example: modelyard model import vww_96_int8.tflite --dataset-version people/V001 --classes person,none

    \b
    Example: modelyard model import mlruns/0/RUN/artifacts/model --dataset-version houses/V001 --task tabular_regression
    """
    from modelyard.cli.asking import uploaded_model
    from modelyard.cli.exporting import Exported, export_document, print_export
    from modelyard.cli.live import job_bar
    from modelyard.cli.mlflow_model import model_file
    from modelyard.cli.output import print_json
    from modelyard.cli.session import session

    file = model_file(file)
    named = tuple(classes_file.read_text().splitlines()) if classes_file else tuple(filter(None, classes.split(",")))
    with session(common) as here:
        version = here.client.datasets.get_dataset_version(dataset_version).name
        started = here.client.exports.import_model(
            uploaded_model(here, file),
            file_name=file.name,
            task=task,
            classes=[name.strip() for name in named],
            dataset_version=version,
            pixel_scale=pixel_scale,
            pixel_offset=pixel_offset,
            licence=licence,
            target=target,
        )
        with job_bar("import", "export", lambda: here.client.exports.cancel_export(started.name)) as show:
            done = here.client.exports.wait_export(started.name, on_change=show)
    if common.json:
        print_json(export_document(Exported(done)))
    else:
        print_export(Exported(done))


def _show_model(here: Session, name: str) -> None:
    from modelyard.cli.output import date, plain, print_facts, print_json, print_table
    from modelyard.client import last_part, short

    model = here.client.models.get_model(name)
    versions = list(here.client.models.list_model_versions(name))
    if here.common.json:
        print_json({**plain(model), "versions": [plain(version) for version in versions]})
        return
    print_facts(
        {"model": last_part(model.name), "description": model.description, "latest version": last_part(model.latest_version)}
    )
    print()
    rows = [
        (
            last_part(one.name),
            one.recipe.recipe_id,
            short(one.dataset_version),
            _scores(one.training_metrics),
            date(one.create_time),
        )
        for one in versions
    ]
    print_table(("version", "recipe", "trained on", "validation", "created"), rows)


def _show_version(here: Session, name: str) -> None:
    from modelyard.cli.output import date, plain, print_facts, print_json
    from modelyard.client import last_part, short

    version = here.client.models.get_model_version(name)
    if here.common.json:
        print_json(plain(version))
        return
    facts = {
        "model version": short(version.name),
        "description": version.description,
        "recipe": version.recipe.recipe_id,
        "parameters": version.recipe.parameter_count,
        "trained on": short(version.dataset_version),
        "training job": last_part(version.training_job),
        "started from": short(version.parent_version),
        "classes": list(version.classes),
        "validation": _scores(version.training_metrics),
        "sha256": version.model_file.sha256,
        "created": date(version.create_time),
    }
    print_facts(facts)


def _scores(metrics: object) -> str:
    from modelyard.cli.output import number

    return ", ".join(f"{name} {number(value)}" for name, value in sorted(dict(metrics).items()))  # type: ignore[call-overload]
