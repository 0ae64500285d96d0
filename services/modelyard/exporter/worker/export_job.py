"""The work of an export: made in the form asked for, or chosen by the planner, or taken in from a file; proven, measured, stored.

Nothing is stored before everything has succeeded; what was made on the way is in the job's work folder, which the engine removes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import FailedPrecondition
from modelyard.exporter.domain.compression import AWARE, POST_TRAINING, CompressionStep, Figure, fallback, judged
from modelyard.exporter.domain.export import Calibration, ExportResult, ExportSpec, Parity
from modelyard.exporter.domain.form import EDGE, FP32, Form
from modelyard.exporter.domain.targets import Target
from modelyard.exporter.worker.drift_statistics import write_statistics
from modelyard.exporter.worker.measuring import Measurement, facts_of, measured
from modelyard.formats.bundle import Bundle, Source, open_bundle
from modelyard.formats.dataset import AUDIO, IMAGE, DatasetReader, open_dataset
from modelyard.formats.model import ModelFile, PictureInput, read_model
from modelyard.formats.tasks import task_of

if TYPE_CHECKING:
    from modelyard.exporter.worker.finetune import Examples
    from modelyard.recipes.build_image import ServedImageModel

MEASURE_S: Final = 2.0
MEASURE_ROAD_S: Final = 1.0
GRAPH_PART, TRAINING_PART, LATENCY_PART, STORE_PART = 0.05, 0.6, 0.85, 0.97
"""Where a stage begins, as a share of the whole."""
PLANNING_PART: Final = 0.9
METHODS: Final = {"aware": AWARE, "post_training": POST_TRAINING}


@dataclass(frozen=True)
class Reports:
    """on_stage(stage, share done 0 to 1, seconds left or None) raises what ends the job; should_stop() without raising."""

    on_stage: Callable[[str, float, float | None], None]
    should_stop: Callable[[], bool]


@dataclass(frozen=True)
class Work:
    """What an export is made from."""

    spec: ExportSpec
    target: Target
    reader: DatasetReader
    file: Path
    source: Source
    folder: Path
    reports: Reports

    @property
    def form(self) -> Form:
        """The form asked for."""
        return Form(self.spec.format, self.spec.precision, accelerator=self.accelerator)

    @property
    def accelerator(self) -> str:
        """What an edge bundle is compiled for."""
        return self.target.accelerator if self.spec.format == EDGE else ""


def run_export(spec: ExportSpec, artifacts: ArtifactStore, folder: Path, reports: Reports) -> ExportResult:
    """Makes, proves, measures and stores. Raises what the steps do (see worker.export, worker.planner, worker.imported)."""
    source = Source(spec.model_version, spec.dataset_version, spec.dataset_digest, spec.model_file.sha256)
    reader = open_dataset(artifacts, spec.descriptor)
    target = facts_of(spec.facts, spec.target)
    work = Work(spec, target, reader, artifacts.path(spec.model_file), source, folder, reports)
    path, trail = _made(work)
    write_statistics(path, reader)
    bundle = open_bundle(path)
    if not trail:  # the planner holds what it tries against the target's room itself
        check_room(bundle, target)
    reports.on_stage("latency", LATENCY_PART if spec.limits is None else PLANNING_PART, None)
    measurement = measured(target, path, MEASURE_S)
    if spec.limits is not None and not trail:
        trail = _trail_of_float(spec, bundle, measurement)
    reports.on_stage("store", STORE_PART, None)
    return _result(artifacts, bundle, measurement, trail)


def _made(work: Work) -> tuple[Path, tuple[CompressionStep, ...]]:
    """The bundle, and what was tried on the way."""
    path = work.folder / "model.bundle"
    work.reports.on_stage("graph", 0.0, None)
    if work.spec.imported is not None:
        _taken_in(work, path)
        return path, ()
    picture = task_of(work.spec.task).compressed
    if work.spec.limits is not None and task_of(work.spec.task).planned:
        return _planned(work)
    if picture and (work.spec.quantization == AWARE or work.spec.pruning.wanted):
        _trained(work, path)
    else:
        _plain(work, path)
    return path, ()


def _plain(work: Work, path: Path) -> None:
    from modelyard.exporter.worker.export import export_model

    starts = {"graph": GRAPH_PART, "parity": TRAINING_PART}
    export_model(
        work.file,
        work.reader,
        path,
        work.source,
        lambda stage: work.reports.on_stage(stage, starts.get(stage, GRAPH_PART), None),
        work.form,
    )


def _taken_in(work: Work, path: Path) -> None:
    from modelyard.exporter.worker.imported import import_model

    imported = work.spec.imported
    if imported is None:
        raise AssertionError("only an imported file is taken in")
    import_model(
        work.file,
        imported.file_name,
        work.spec.task,
        imported.classes,
        work.reader,
        imported.pixel_scale,
        imported.pixel_offset,
        imported.licence,
        path,
    )


def _trained(work: Work, path: Path) -> None:
    """Pruned and trained on, or trained on with rounding, or both; then converted."""
    from modelyard.exporter.worker.export import weights_licence, write_export

    file, picture = _picture_file(work)
    model = _changed(work, file, picture)
    work.reports.on_stage("graph", TRAINING_PART, None)
    write_export(
        model,
        work.reader,
        path,
        work.form,
        work.source,
        picture=picture,
        quantization_method=work.spec.quantization,
        classes=file.card.classes,
        recipe=file.card.architecture,
        licence=weights_licence(file.card),
    )


def _changed(work: Work, file: ModelFile, picture: PictureInput) -> ServedImageModel:
    from modelyard.exporter.worker import finetune
    from modelyard.exporter.worker.picture_graph import served_model
    from modelyard.exporter.worker.pruning import prune_channels, prune_weights
    from modelyard.exporter.worker.qat import quantization_aware

    spec, pruning = work.spec, work.spec.pruning
    model, train = served_model(file), _training_examples(work, picture)
    steps: list[tuple[str, Callable[[ServedImageModel, finetune.Budget, finetune.Listener], ServedImageModel]]] = []
    if pruning.channels:
        cut = pruning.channels
        steps.append(("train without the channels", lambda model, b, heard: prune_channels(model, train, cut, b, heard)))
    if pruning.weights:
        zero = pruning.weights
        steps.append(("train without the weights", lambda model, b, heard: prune_weights(model, train, zero, b, heard)))
    if spec.quantization == AWARE:
        steps.append(
            (
                "train with rounding",
                lambda model, b, heard: quantization_aware(
                    model,
                    train,
                    seconds=b.seconds,
                    seed=b.seed,
                    on_progress=heard.on_progress,
                    should_stop=heard.should_stop,
                ),
            )
        )
    seconds = spec.max_training_s / len(steps)
    for number, (stage, change) in enumerate(steps):
        heard = finetune.Listener(_training_progress(work, stage, number, len(steps)), work.reports.should_stop)
        model = change(model, finetune.Budget(seconds), heard)
    return model


def _training_progress(work: Work, stage: str, number: int, count: int) -> Callable[[float, float], None]:
    room = (TRAINING_PART - GRAPH_PART) / count

    def tell(fraction: float, eta_s: float) -> None:
        work.reports.on_stage(stage, GRAPH_PART + room * (number + fraction), eta_s)

    return tell


def _training_examples(work: Work, picture: PictureInput) -> Examples:
    from modelyard.exporter.worker.finetune import Examples
    from modelyard.formats.dataset import TRAIN

    work.reports.on_stage("read pictures", GRAPH_PART / 2, None)
    pictures = work.reader.pictures(TRAIN, picture.height, picture.width, picture.channels)
    return Examples(pictures, work.reader.labels(TRAIN), work.reader.descriptor.kind == AUDIO)


def _planned(work: Work) -> tuple[Path, tuple[CompressionStep, ...]]:
    import numpy as np

    from modelyard.exporter.worker import planner
    from modelyard.exporter.worker.export import weights_licence
    from modelyard.exporter.worker.picture_graph import served_model

    file, picture = _picture_file(work)
    spec, target = work.spec, work.target
    if spec.limits is None:
        raise AssertionError("planned within limits only")
    size = min(filter(None, (spec.limits.max_size_bytes, target.flash_bytes)), default=0)
    limits = replace(spec.limits, max_size_bytes=size, max_ram_bytes=target.ram_bytes)
    plan = planner.Plan(
        spec.format,
        spec.precision,
        limits,
        spec.task,
        planner.validation_examples(work.reader, picture).labels if task_of(spec.task).compressed else np.zeros(0, np.int64),
        training_s=spec.max_training_s,
        accelerator=work.accelerator,
        unmeasured_reason=target.unmeasured_reason,
        figures=not task_of(spec.task).compressed,
    )
    context = planner.Context(
        served_model(file),
        picture,
        work.reader,
        work.folder,
        work.source,
        lambda path: measured(target, path, MEASURE_ROAD_S, alone=False).latency,
        plan,
        file.card.classes,
        file.card.architecture,
        weights_licence(file.card),
    )
    listener = planner.Listener(
        lambda stage, fraction, eta_s: work.reports.on_stage(stage, PLANNING_PART * fraction, eta_s), work.reports.should_stop
    )
    compressed = planner.compress(context, listener)
    return compressed.path, compressed.trail


def _picture_file(work: Work) -> tuple[ModelFile, PictureInput]:
    """The trained network's file, and its input. Raises FailedPrecondition DATASET_MISMATCH."""
    file = read_model(work.file)
    if file.card.kind != "torch" or file.card.input is None or work.reader.descriptor.kind not in (IMAGE, AUDIO):
        message = f"the model ({file.card.task}) does not fit the dataset version ({work.reader.descriptor.task})"
        raise FailedPrecondition("DATASET_MISMATCH", message, model_task=file.card.task)
    return file, file.card.input


def check_room(bundle: Bundle, target: Target) -> None:
    """Raises FailedPrecondition MODEL_TOO_LARGE for a target without the room, naming what it needs and what there is."""
    if not (target.ram_bytes or target.flash_bytes):
        return
    from modelyard.exporter.worker.edge import check_fits

    check_fits(bundle.model_files(), target.ram_bytes, target.flash_bytes)


def _trail_of_float(spec: ExportSpec, bundle: Bundle, measurement: Measurement) -> tuple[CompressionStep, ...]:
    """A table has the one road: its float model, which loses nothing against itself."""
    if spec.limits is None:
        raise AssertionError("a trail belongs to limits")
    none = Figure("loss", 0.0, 0.0, 0.0, False)
    step = CompressionStep("float", spec.format, spec.precision or FP32, "", bundle.model_size, measurement.latency, None, none)
    step = judged(step, spec.limits)
    return (step,) if step.accepted else (step, fallback((step,), skipped_training=False))


def _result(
    artifacts: ArtifactStore, bundle: Bundle, measurement: Measurement, trail: tuple[CompressionStep, ...]
) -> ExportResult:
    card = bundle.card
    parity, calibration = card.parity, card.calibration
    return ExportResult(
        artifact=artifacts.put_file(bundle.path),
        parity=Parity(parity.examples, parity.max_abs_difference, parity.label_agreement, parity.tolerance) if parity else None,
        latency=measurement.latency,
        single_thread_latency=measurement.single_thread,
        unmeasured_reason=measurement.unmeasured_reason,
        model_size_bytes=bundle.model_size,
        calibration=Calibration(calibration.examples, calibration.seed, calibration.digest) if calibration else None,
        trail=trail,
        format=card.format,
        precision=card.precision,
        quantization=METHODS.get(card.quantization.method, "") if card.quantization else "",
    )
