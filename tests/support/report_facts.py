"""Facts of a report, for every kind of task: messages as services send them."""

from __future__ import annotations

import io
from typing import Any, Final

from PIL import Image

from modelyard.client.drawing.report import Facts
from modelyard.dataset.v1 import dataset_pb2, dataset_service_pb2, example_view_pb2
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.exporter.v1 import exporter_pb2
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import job_pb2, learning_pb2

P: Final = "projects/default"
DONE: Final = job_pb2.JobStatus(state=job_pb2.JOB_STATE_SUCCEEDED, reason="COMPLETED")
HOSTILE: Final = "<script>alert(1)</script>"
"""A name that somebody chose with ill intent."""
METRICS: Final = {
    "image_classification": ("accuracy", "f1_macro", "log_loss"),
    "tabular_classification": ("accuracy", "roc_auc"),
    "tabular_regression": ("rmse", "r2", "residual_p95"),
    "image_multilabel": ("mean_average_precision", "f1_micro"),
    "object_detection": ("map_50", "map_50_95"),
    "semantic_segmentation": ("mean_iou", "dice"),
    "audio_classification": ("accuracy",),
    "series_classification": ("accuracy",),
    "keypoint_detection": ("map_50",),
    "anomaly_detection": ("balanced_accuracy", "roc_auc", "f1"),
    "forecasting": ("forecast_skill", "mae"),
}
LESS: Final = {"rmse", "log_loss"}


def metric(name: str, value: float = 0.8) -> learning_pb2.Metric:
    return learning_pb2.Metric(name=name, value=value, lower=value - 0.05, upper=value + 0.04, higher_is_better=name not in LESS)


def picture(side: int = 16) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), (90, 120, 40)).save(out, "PNG")
    return out.getvalue()


def facts_of(task: str) -> Facts:
    """A whole run of a task; its first class has a hostile name."""
    number = learning_pb2.Task.Value(f"TASK_{task.upper()}")
    classes = [] if task in ("tabular_regression", "anomaly_detection", "forecasting") else [HOSTILE, "tulip", "daisy"]
    version, model = f"{P}/datasets/flowers/versions/V001", f"{P}/models/flowers/versions/V001"
    decision = evaluator_pb2.GateDecision(
        name=f"{P}/gateDecisions/g1",
        evaluation=f"{P}/evaluations/e1",
        verdict=evaluator_pb2.VERDICT_DEPLOY,
        reasons=["all tests passed"],
        tests=[
            evaluator_pb2.GateTest(
                name="floor:accuracy",
                passed=True,
                value=0.9,
                lower=0.85,
                upper=0.95,
                bound=0.8,
                message="0.9 is above 0.8",
                outcome=1,
            )
        ],
    )
    evaluation = evaluation_of(task, classes, version)
    run = pipeline_pb2.PipelineRun(
        name=f"{P}/pipelineRuns/run-1", dataset_version=version, model=f"{P}/models/flowers", target="cpu", status=DONE
    )
    run.steps.add(step_id="train", state=job_pb2.JOB_STATE_SUCCEEDED, message=f"trained {HOSTILE}")
    run.result.dataset_version, run.result.model_version, run.result.evaluation = version, model, evaluation.name
    run.result.scores.extend(evaluation.scores)
    run.result.latency.CopyFrom(learning_pb2.Latency(p50_ms=1.5, p95_ms=2.5, target="cpu", threads=2))
    run.result.candidates.add(recipe_id="tinynet", size_bytes=500_000)
    run.result.findings.add(kind="EXACT_DUPLICATES", severity=2, message=f"4 twice, {HOSTILE}", action="remove them")
    run.result.gate_decision.CopyFrom(decision)
    export = exporter_pb2.Export(
        name=f"{P}/exports/x1", model_version=model, status=DONE, format=2, precision=3, model_size_bytes=186_000
    )
    export.latency.CopyFrom(learning_pb2.Latency(p50_ms=0.2, p95_ms=0.4))
    export.trail.add(road="int8 after training", size_bytes=186_000, accepted=True, message="accepted")
    unmeasured = exporter_pb2.Export(name=f"{P}/exports/x2", model_version=model, status=DONE, unmeasured_reason="no mcu is here")
    return Facts(
        run=run,
        job=job_of(number, version, model),
        points=[
            trainer_pb2.TrainingPoint(
                step=at, epoch=at / 10, loss=1 / (at + 1), learning_rate=0.01, metrics={"val_accuracy": at / 50}
            )
            for at in range(1, 40)
        ],
        version=version_of(number, version, classes, task),
        model=trainer_pb2.ModelVersion(
            name=model, task=number, dataset_version=version, classes=classes, training_metrics={"val_accuracy": 0.8}
        ),
        exports=[export, unmeasured],
        evaluations={export.name: evaluation},
        decisions={evaluation.name: decision},
        chosen=evaluation,
        views=views_of(task, evaluation),
        passport=({"artifact": {"format": "litert"}, "dataset": {"digest": "d" * 64}, "licence": HOSTILE}, "a" * 64, "key-1"),
        missing=["the sounds: gone"],
    )


def job_of(task: int, version: str, model: str) -> Any:
    recipe = trainer_pb2.Recipe(recipe_id="tinynet", task=task, architecture="modelyard:tinynet", input_width=48, input_height=48)  # type: ignore[arg-type]
    recipe.hyperparameters.max_epochs, recipe.hyperparameters.base_lr = 20, 0.002
    recipe.hyperparameters.optimizer, recipe.hyperparameters.class_weights = trainer_pb2.OPTIMIZER_ADAMW, False
    job = trainer_pb2.TrainingJob(
        name=f"{P}/trainingJobs/job-1", dataset_version=version, model=f"{P}/models/flowers", model_version=model, status=DONE
    )
    job.resolved_recipe.CopyFrom(recipe)
    job.checkpoints.add(kind=2, step=100, epoch=4, metrics={"val_accuracy": 0.8})
    job.notes.add(reason="BATCH_CHOSEN", message="64 fit")
    job.remarks.add(text=f"labels were fixed {HOSTILE}", author="ada")
    return job


def version_of(task: int, name: str, classes: list[str], kind: str) -> Any:
    version = dataset_pb2.DatasetVersion(
        name=name, task=task, classes=classes, digest="d" * 64, status=DONE, notes=["4 duplicates kept together"]
    )  # type: ignore[arg-type]
    for usage, count in ((1, 60), (2, 20), (3, 20)):
        version.counts.add(usage=usage, example_count=count, class_counts=[count // 3] * len(classes))  # type: ignore[arg-type]
    if kind.startswith("tabular"):
        version.columns.add(name="age", role=1)
    return version


def evaluation_of(task: str, classes: list[str], version: str) -> Any:
    evaluation = evaluator_pb2.Evaluation(
        name=f"{P}/evaluations/e1", export=f"{P}/exports/x1", dataset_version=version, artifact_sha256="a" * 64, status=DONE
    )
    for usage in (1, 2, 3):
        score = evaluation.scores.add(usage=usage, example_count=20)  # type: ignore[arg-type]
        score.metrics.extend(metric(name) for name in METRICS[task])
        for label in classes:
            one = score.classes.add(label=label, support=7)
            one.precision.CopyFrom(metric("precision"))
            if task == "object_detection":
                one.metrics.append(metric("map_50"))
        if "classification" in task and classes:
            for at in range(len(classes)):
                score.confusion.add(counts=[5 if at == to else 1 for to in range(len(classes))])
    evaluation.baseline_scores.add(usage=3, example_count=20, metrics=[metric(METRICS[task][0], 0.3)])
    evaluation.train_gaps.append(metric(METRICS[task][0], 0.2))
    evaluation.slices.add(column="origin", value="japan", example_count=12, metrics=[metric(METRICS[task][0])])
    for at in range(3):
        evaluation.worst_examples.add(
            example_id=f"e{at}", usage=3, label="tulip", prediction=HOSTILE, probability=0.9 if classes else 0.0, loss=2.3
        )
    return evaluation


def views_of(task: str, evaluation: Any) -> Any:
    views = dataset_service_pb2.ViewExamplesResponse(classes=["tulip"], class_colours=["#aa0000"])
    for one in evaluation.worst_examples:
        example = dataset_pb2.Example(example_id=one.example_id, label="tulip", path=f"tulip/{HOSTILE}.png", usage=3)
        view = example_view_pb2.ExampleView(example=example)
        if task.startswith("tabular"):
            view.cells.add(column="age", value="30")
        elif task in ("audio_classification", "series_classification", "anomaly_detection", "forecasting"):
            view.steps = 50
            view.traces.add(name="x", low=[0.0, 0.5, float("nan"), 1.0], high=[0.0, 0.6, float("nan"), 1.0])
            view.intervals.add(start=10, end=20, label="spike")
        else:
            view.media_type, view.content, view.width, view.height = "image/png", picture(), 16, 16
            mark = view.marks.add(label="tulip", left=2, top=2, right=9, bottom=9, keypoints=[4, 4, 2])
            mark.rings.add(points=[1, 1, 8, 1, 8, 8])
        views.examples.append(view)
    return views
