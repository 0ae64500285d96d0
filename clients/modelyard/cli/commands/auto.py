"""`modelyard auto`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

import typer

from modelyard.cli.options import Common, Flavor, new_app, with_common

if TYPE_CHECKING:
    from modelyard.cli.session import Session
    from modelyard.exporter.v1 import exporter_pb2
    from modelyard.pipeline.v1 import pipeline_pb2

app = new_app()

MAX_LATENCY_MS: Final = 20_000


@app.command(name="auto")
@with_common
def auto(
    common: Common,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Folder, CSV, Parquet, IDX, zip (docs/data.md); or an artifact:// URI; or a dataset (version) by its full name.",
        ),
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the dataset, the model and the endpoint.")],
    task: Annotated[
        str, typer.Option(help="What to learn: object_detection, semantic_segmentation... Default: detected from the data.")
    ] = "",
    label: Annotated[str, typer.Option(help="Tables: the column to predict.")] = "",
    usage_column: Annotated[str, typer.Option(help="Tables: the column that says train, validation or test.")] = "",
    format: Annotated[
        list[str],
        typer.Option(
            help="Form of the model (onnx, litert, savedmodel, openvino, edge, torch-export; default: the target's), or of data "
            "(image_folders, csv, parquet, idx; default: detected); may be given again."
        ),
    ] = [],  # noqa: B006
    exclude: Annotated[list[str], typer.Option(help="Tables: a column to leave out; may be given again.")] = [],  # noqa: B006
    target: Annotated[
        str, typer.Option(help="Hardware that will answer: cpu, cpu-1core, gpu, edge-arm64, mcu, or see `modelyard target list`.")
    ] = "cpu",
    max_latency_ms: Annotated[
        int | None, typer.Option(help="Longest answer allowed there (p95), 1 to 20000 ms. Default: 500.")
    ] = None,
    precision: Annotated[str, typer.Option(help="Its numbers: fp32, fp16, int8 or dynamic-int8. Default: the target's.")] = "",
    max_size: Annotated[str, typer.Option(help="Largest model file: 200KB, 1.5MB. Chooses form and numbers by trying.")] = "",
    max_loss: Annotated[
        float,
        typer.Option(
            show_default=False,
            help="Most that accuracy may fall against the float model and what serves now (or its share of rmse). Default: 0.01.",
        ),
    ] = 0.0,
    compress: Annotated[
        bool, typer.Option("--compress", help="Choose form and numbers by trying, the cheapest first, within --max-loss.")
    ] = False,
    max_train_time: Annotated[str, typer.Option(help="Most time to train: 90s, 10m, 1h30m. Default: the recipe's length.")] = "",
    train_ratio: Annotated[str, typer.Option(help="Share to train on, above 0 and below 1, one to five decimals.")] = "0.8",
    split: Annotated[str, typer.Option(help="auto, ratio, or given (only the usage that came with the data).")] = "auto",
    group_by: Annotated[str, typer.Option(help="Keep together what belongs together, see `dataset publish`.")] = "",
    test_where: Annotated[list[str], typer.Option(help='What is test: "index < 5", see `dataset publish`.')] = [],  # noqa: B006
    min_accuracy: Annotated[
        float | None, typer.Option(help="Least accuracy on the test examples; short for --floor accuracy=X.")
    ] = None,
    floor: Annotated[
        list[str],
        typer.Option(metavar="METRIC=VALUE", help="What the model must reach on the test examples; may be given again."),
    ] = [],  # noqa: B006
    class_floor: Annotated[
        list[str],
        typer.Option(metavar="CLASS:METRIC=VALUE", help="What one class must reach: rose:recall=0.8; may be given again."),
    ] = [],  # noqa: B006
    recipe: Annotated[str, typer.Option(help="Recipe to train, or a JSON file with one. Default: chosen by measuring.")] = "",
    incremental: Annotated[str, typer.Option(metavar="MODEL_VERSION", help="Model version to start from.")] = "",
    version_name: Annotated[str, typer.Option(help="Name of the dataset version. Default: V001, V002...")] = "",
    seed: Annotated[int, typer.Option(help="Seed of split and training.")] = 0,
    no_deploy: Annotated[bool, typer.Option("--no-deploy", help="End after the gate.")] = False,
    instance_flavor: Flavor = "",
    detach: Annotated[bool, typer.Option("--detach", help="With a server: start the run and return.")] = False,
) -> None:
    """From data to a served endpoint: import, check, split, choose by measured latency, train, export, evaluate, gate, deploy.

    A form below float is compared with the float model, and when it loses too much, quantization-aware training is tried once.
    What serves now is compared with too. When the gate says BACK_TO_DATA, the examples to look at are named.

    Ends with exit code 3, the reasons, and nothing deployed when the gate says no.

    \b
    Example: modelyard auto flowers/ --name flowers --max-train-time 10m --min-accuracy 0.85

    \b
    Example: modelyard auto flowers/ --name flowers --format litert --precision int8 --max-loss 0.01

    \b
    Example: modelyard auto houses.csv --name houses --label price --floor rmse=50000 --json
    """
    from modelyard.cli.asking import class_floors_of, floors_of, forms_of, whole_number
    from modelyard.cli.durations import seconds_of
    from modelyard.cli.recipe_file import read_recipe
    from modelyard.cli.session import session
    from modelyard.client._messages import duration, floor_messages, split_policy

    checked_name(name)
    if max_latency_ms is not None:
        whole_number(max_latency_ms, 1, MAX_LATENCY_MS, "max_latency_ms", "milliseconds")
    source_format, model_format = forms_of(format)
    floors, class_floors = floors_of(floor, min_accuracy), class_floors_of(class_floor)
    train_s = seconds_of(max_train_time, "max_training_time") if max_train_time else None
    policy = split_policy(train_ratio, split, seed, group_by, test_where=test_where)
    with session(common) as here:
        names = here.client.names
        run = _data(here, source, name, task, source_format, label, usage_column)
        run.split.CopyFrom(policy)
        run.dataset_version_id, run.target, run.max_inference_duration_ms = version_name, target, max_latency_ms or 0
        run.excluded_columns.extend(exclude)
        run.model, run.endpoint = names.model(name), names.endpoint(name)
        run.incremental_model_version = _known_version(here, incremental) if incremental else ""
        if recipe.endswith(".json"):
            run.recipe.CopyFrom(read_recipe(recipe))
        elif recipe:
            run.recipe.recipe_id = recipe
        if seed:
            run.recipe.hyperparameters.seed = seed
        if train_s is not None:
            run.max_training_time.CopyFrom(duration(train_s))
        run.floors.extend(floor_messages(floors))
        run.class_floors.extend(class_floors)
        _set_form(run, model_format, precision, max_size, max_loss, compress)
        run.skip_deployment, run.instance_flavor = no_deploy, instance_flavor
        _start(here, run, detach)


def checked_name(name: str) -> None:
    """InvalidArgument when a name cannot be that of a dataset, a model or an endpoint: before anything is uploaded."""
    from modelyard.client import InvalidArgument, Violation

    if not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", name):
        message = f"name is {name!r}; give 1 to 63 of a-z, 0-9 and '-', starting with a letter"
        raise InvalidArgument(message, reason="INVALID_NAME", values={"name": name}, violations=(Violation("name", message),))


def _set_form(
    run: pipeline_pb2.PipelineRun,
    model_format: exporter_pb2.Format.ValueType,
    precision: str,
    max_size: str,
    max_loss: float,
    compress: bool,
) -> None:
    """What the deployed model is to be; with a size, or on demand, chosen by trying."""
    from modelyard.cli.sizes import bytes_of
    from modelyard.client.enums import enum_number
    from modelyard.exporter.v1 import exporter_pb2 as exporter

    run.format = model_format
    run.precision = enum_number(exporter.Precision, precision, "precision")
    run.max_loss = max_loss
    if max_size or compress:
        run.compression.max_size_bytes = bytes_of(max_size, "max_size") if max_size else 0
        run.compression.max_loss = max_loss


def _data(
    here: Session, source: str, name: str, task: str, format: str, label: str, usage_column: str
) -> pipeline_pb2.PipelineRun:
    """A run with where its data come from; a local source is uploaded."""
    from modelyard.cli.asking import uploaded
    from modelyard.client.enums import enum_number
    from modelyard.dataset.v1 import dataset_pb2
    from modelyard.pipeline.v1 import pipeline_pb2
    from modelyard.type.v1 import learning_pb2

    if source.startswith("projects/"):
        if "/versions/" in source:
            version = here.client.datasets.get_dataset_version(source)
            return pipeline_pb2.PipelineRun(dataset_version=version.name)
        return pipeline_pb2.PipelineRun(dataset=here.client.names.dataset(source))
    chosen = {
        "format": enum_number(dataset_pb2.SourceFormat, format, "format"),
        "task": enum_number(learning_pb2.Task, task, "task"),
    }
    blob, file_name = uploaded(here, source)
    return pipeline_pb2.PipelineRun(
        source=pipeline_pb2.Source(
            blob=blob, file_name=file_name, label_column=label, dataset=here.client.names.dataset(name), **chosen
        )
    )


def _known_version(here: Session, model_version: str) -> str:
    return here.client.models.get_model_version(model_version).name


def _start(here: Session, run: pipeline_pb2.PipelineRun, detach: bool) -> None:
    from modelyard.cli.output import note, print_json
    from modelyard.client import last_part

    made = here.client.pipelines.create_pipeline_run(run)
    note(f"pipeline run {last_part(made.name)}")
    if detach and not here.embedded:
        if here.common.json:
            print_json({"state": "QUEUED", "pipeline_run": made.name})
        note(f"watch it: {here.watch_command(last_part(made.name))}")
        return
    follow(here, made.name)


def follow(here: Session, name: str) -> None:
    """Watches a run to its end, prints its result, and ends the command with the status that says how it went."""
    import time

    from modelyard.cli.live import run_picture
    from modelyard.cli.next_steps import next_steps
    from modelyard.cli.output import note, print_json
    from modelyard.cli.results import asking, example_paths, print_run, run_document, run_exit
    from modelyard.client import Unavailable, last_part
    from modelyard.type.v1 import job_pb2

    try:
        with run_picture() as show:
            while True:
                for change in here.client.pipelines.watch_pipeline_run(name):
                    show(change)
                run = here.client.pipelines.get_pipeline_run(name)
                if run.status.state > job_pb2.JOB_STATE_RUNNING:
                    break
                time.sleep(1.0)  # the server stops, and may be started again
    except KeyboardInterrupt:
        again = here.watch_command(last_part(name))
        if here.embedded:
            note(f"\nthe server of this command stops; the run goes on from its last checkpoint with: {again}")
        else:
            note(f"\nthe run goes on; watch it with: {again}")
        raise
    except Unavailable:
        note(f"the run goes on when the server is there again; watch it with: {here.watch_command(last_part(name))}")
        raise
    paths, steps = example_paths(here, run), next_steps(here, run)
    if here.common.json:
        print_json(run_document(run, paths, steps))
    else:
        print_run(run, paths, asking(here, run.result.endpoint, run.result.dataset_version), steps)
    status = run_exit(run)
    _say_error(run)
    if status:
        raise typer.Exit(status)


def _say_error(run: pipeline_pb2.PipelineRun) -> None:
    from modelyard.cli.exits import lines
    from modelyard.cli.output import note
    from modelyard.client._status import from_status
    from modelyard.type.v1 import job_pb2

    if run.status.state == job_pb2.JOB_STATE_FAILED:
        note(lines(from_status(run.status.error)))
