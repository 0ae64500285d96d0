"""A whole Modelyard of fakes for the command line: every service on one real gRPC server, answering from memory."""

from __future__ import annotations

import io
import struct
import threading
import zipfile
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import duration_pb2
from google.protobuf.empty_pb2 import Empty

from inference import grpc_service_pb2 as oip
from inference import grpc_service_pb2_grpc as oip_grpc
from modelyard.artifact.v1 import artifact_service_pb2_grpc
from modelyard.client.tensors import pack_bytes
from modelyard.dataset.v1 import dataset_pb2, dataset_service_pb2, dataset_service_pb2_grpc
from modelyard.evaluator.v1 import evaluator_pb2, evaluator_service_pb2, evaluator_service_pb2_grpc
from modelyard.exporter.v1 import exporter_pb2, exporter_service_pb2, exporter_service_pb2_grpc
from modelyard.pipeline.v1 import pipeline_pb2, pipeline_service_pb2, pipeline_service_pb2_grpc
from modelyard.serving.v1 import serving_pb2, serving_service_pb2, serving_service_pb2_grpc
from modelyard.trainer.v1 import trainer_pb2, trainer_service_pb2, trainer_service_pb2_grpc
from modelyard.type.v1 import job_pb2, learning_pb2
from tests.support.client_fakes import FakeArtifacts, Server, abort, status_of

P = "projects/default"
RUNNING, SUCCEEDED, FAILED = job_pb2.JOB_STATE_RUNNING, job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED
DONE = job_pb2.JobStatus(state=SUCCEEDED, reason="COMPLETED", sequence=2)


def metric(name: str, value: float) -> learning_pb2.Metric:
    return learning_pb2.Metric(name=name, value=value, lower=value - 0.01, upper=value + 0.01, higher_is_better=True)


SCORES = [
    evaluator_pb2.UsageScore(usage=learning_pb2.USAGE_TEST, example_count=100, metrics=[metric("accuracy", 0.91)]),
    evaluator_pb2.UsageScore(usage=learning_pb2.USAGE_VALIDATION, example_count=90, metrics=[metric("accuracy", 0.9)]),
]


class Datasets(dataset_service_pb2_grpc.DatasetServiceServicer):
    def __init__(self, artifacts: FakeArtifacts) -> None:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("annotations/instances_train.json", "{}")
            opened.writestr("images/train/1.png", b"png")
        self.archive = artifacts.keep(archive.getvalue())
        self.page = artifacts.keep(b"<!doctype html>a report")
        self.requests: list[Any] = []
        self.deleted: list[str] = []
        self.reports: list[Any] = []

    def CreateDataset(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        if request.dataset_id == "taken":
            abort(context, grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS", "exists")
        return dataset_pb2.Dataset(name=f"{request.parent}/datasets/{request.dataset_id}")

    def GetDataset(self, request: Any, context: Any) -> Any:
        return dataset_pb2.Dataset(name=request.name, task=learning_pb2.TASK_IMAGE_CLASSIFICATION)

    def ListDatasets(self, request: Any, context: Any) -> Any:
        return dataset_service_pb2.ListDatasetsResponse(datasets=[dataset_pb2.Dataset(name=f"{P}/datasets/flowers")])

    def CreateImport(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        if request.dataset_import.label_column == "missing":
            message = "label_column is 'missing'; the table has a, b"
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, "NO_TARGET", message, "dataset_import.label_column")
        return self._import(request.parent + "/imports/i1")

    def _import(self, name: str) -> Any:
        summary = dataset_pb2.ImportSummary(
            example_count=3,
            classes=["rose", "tulip"],
            class_counts=[2, 1],
            rejected_count=1,
            rejected=[dataset_pb2.RejectedInput(path="x.jpg", reason="EMPTY_FILE", message="0 bytes")],
        )
        return dataset_pb2.Import(name=name, status=DONE, summary=summary)

    def GetImport(self, request: Any, context: Any) -> Any:
        return self._import(request.name)

    def WatchImport(self, request: Any, context: Any) -> Iterator[Any]:
        yield dataset_service_pb2.WatchImportResponse(sequence=2, dataset_import=self._import(request.name))

    def DeleteDataset(self, request: Any, context: Any) -> Any:
        self.deleted.append(request.name)
        return Empty()

    def CreateQualityReport(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        report = self._report(request.parent + "/qualityReports/q1")
        report.dataset_version = request.quality_report.dataset_version
        report.depth = request.quality_report.depth
        self.reports.append(report)
        return report

    def ListQualityReports(self, request: Any, context: Any) -> Any:
        return dataset_service_pb2.ListQualityReportsResponse(quality_reports=self.reports)

    def ListImports(self, request: Any, context: Any) -> Any:
        return dataset_service_pb2.ListImportsResponse()

    def CancelQualityReport(self, request: Any, context: Any) -> Any:
        return self._report(request.name)

    def _report(self, name: str) -> Any:
        drop, relabel = dataset_pb2.Edit.ACTION_DROP, dataset_pb2.Edit.ACTION_RELABEL
        finding = dataset_pb2.Finding(
            kind="EXACT_DUPLICATES",
            severity=dataset_pb2.Finding.SEVERITY_WARNING,
            message="4 pictures twice",
            action="remove them",
            cost="they count twice",
            examples=["a.png", "b.png", "c.png", "d.png"],
            example_count=4,
            fix=dataset_pb2.Edit(action=drop, example_ids=["e1", "e2"]),
        )
        wrong = dataset_pb2.Finding(
            kind="LABEL_ERRORS",
            severity=dataset_pb2.Finding.SEVERITY_WARNING,
            message="3 labels",
            fix=dataset_pb2.Edit(action=relabel, example_ids=["e2", "e3", "e4"], labels=["rose", "rose", "tulip"]),
            fix_scores=[0.9, 0.8, 0.4],
        )
        small = dataset_pb2.Finding(kind="SMALL_CLASS", severity=dataset_pb2.Finding.SEVERITY_INFO, message="few")
        return dataset_pb2.QualityReport(name=name, status=DONE, findings=[finding, wrong, small], page=self.page)

    def GetQualityReport(self, request: Any, context: Any) -> Any:
        return self._report(request.name)

    def WatchQualityReport(self, request: Any, context: Any) -> Iterator[Any]:
        yield dataset_service_pb2.WatchQualityReportResponse(sequence=2, quality_report=self._report(request.name))

    def DiffDatasetVersions(self, request: Any, context: Any) -> Any:
        base = request.base_version or request.name.rpartition("/")[0] + "/V001"
        return dataset_pb2.DatasetVersionDiff(base_version=base, dataset_version=request.name, unchanged_count=7)

    def ListExampleChanges(self, request: Any, context: Any) -> Any:
        return dataset_service_pb2.ListExampleChangesResponse()

    def CreateDatasetVersion(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return self._version(f"{request.parent}/versions/{request.dataset_version_id or 'V001'}")

    def _version(self, name: str) -> Any:
        counts = [dataset_pb2.UsageCount(usage=learning_pb2.USAGE_TRAIN, example_count=3, class_counts=[2, 1])]
        return dataset_pb2.DatasetVersion(
            name=name.replace("latest", "V001"), status=DONE, classes=["rose", "tulip"], counts=counts, digest="d" * 64
        )

    def GetDatasetVersion(self, request: Any, context: Any) -> Any:
        if "/none/" in request.name:
            abort(context, grpc.StatusCode.NOT_FOUND, "NOT_FOUND", f"there is no {request.name}", name=request.name)
        return self._version(request.name)

    def ListDatasetVersions(self, request: Any, context: Any) -> Any:
        return dataset_service_pb2.ListDatasetVersionsResponse(
            dataset_versions=[self._version(f"{request.parent}/versions/V001")]
        )

    def WatchDatasetVersion(self, request: Any, context: Any) -> Iterator[Any]:
        yield dataset_service_pb2.WatchDatasetVersionResponse(sequence=2, dataset_version=self._version(request.name))

    def CreateDatasetExport(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return self._export(f"{request.parent}/exports/x1")

    def _export(self, name: str) -> Any:
        return dataset_pb2.DatasetExport(name=name, status=DONE, archive=self.archive, example_count=1, notes=["no masks"])

    def GetDatasetExport(self, request: Any, context: Any) -> Any:
        return self._export(request.name)

    def WatchDatasetExport(self, request: Any, context: Any) -> Iterator[Any]:
        yield dataset_service_pb2.WatchDatasetExportResponse(sequence=2, dataset_export=self._export(request.name))

    def ListExamples(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        start = int(request.page_token or 0)
        examples = [
            dataset_pb2.Example(example_id=f"e{n}", label="rose", path=f"rose/{n}.png")
            for n in range(start, start + request.page_size)
        ]
        return dataset_service_pb2.ListExamplesResponse(examples=examples, next_page_token=str(start + request.page_size))


class Trainer(trainer_service_pb2_grpc.TrainerServiceServicer):
    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.jobs: dict[str, Any] = {}
        self.stopped: list[str] = []
        self.cancelled: list[str] = []

    def CreateTrainingJob(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        job = request.training_job
        job.name = f"{request.parent}/trainingJobs/job-{len(self.jobs) + 1}"
        job.resolved_recipe.recipe_id = job.recipe.recipe_id or "tinynet"
        job.model_version = f"{job.model}/versions/V001"
        job.status.CopyFrom(DONE)
        self.jobs[job.name] = job
        return job

    def GetTrainingJob(self, request: Any, context: Any) -> Any:
        if request.name not in self.jobs:
            abort(context, grpc.StatusCode.NOT_FOUND, "NOT_FOUND", f"there is no {request.name}")
        return self.jobs[request.name]

    def ListTrainingJobs(self, request: Any, context: Any) -> Any:
        return trainer_service_pb2.ListTrainingJobsResponse(training_jobs=self.jobs.values())

    def WatchTrainingJob(self, request: Any, context: Any) -> Iterator[Any]:
        point = trainer_pb2.TrainingPoint(step=10, epoch=0.5, loss=1.5, learning_rate=0.01, metrics={"accuracy": 0.5})
        answer = trainer_service_pb2.WatchTrainingJobResponse(sequence=2, training_job=self.jobs[request.name], points=[point])
        yield answer

    def StopTrainingJob(self, request: Any, context: Any) -> Any:
        self.stopped.append(request.name)
        return trainer_pb2.TrainingJob(name=request.name, status=DONE)

    def CancelTrainingJob(self, request: Any, context: Any) -> Any:
        self.cancelled.append(request.name)
        return trainer_pb2.TrainingJob(name=request.name, status=DONE)

    def ListRecipes(self, request: Any, context: Any) -> Any:
        return trainer_service_pb2.ListRecipesResponse(recipes=[trainer_pb2.Recipe(recipe_id="linear", summary="quick")])

    def GetModel(self, request: Any, context: Any) -> Any:
        return trainer_pb2.Model(name=request.name, latest_version=f"{request.name}/versions/V001")

    def ListModels(self, request: Any, context: Any) -> Any:
        return trainer_service_pb2.ListModelsResponse(models=[trainer_pb2.Model(name=f"{P}/models/flowers")])

    def GetModelVersion(self, request: Any, context: Any) -> Any:
        return trainer_pb2.ModelVersion(name=request.name.replace("latest", "V001"), training_metrics={"accuracy": 0.9})

    def ListModelVersions(self, request: Any, context: Any) -> Any:
        version = trainer_pb2.ModelVersion(name=f"{request.parent}/versions/V001", training_metrics={"accuracy": 0.9})
        return trainer_service_pb2.ListModelVersionsResponse(model_versions=[version])


class Evaluator(evaluator_service_pb2_grpc.EvaluatorServiceServicer):
    def __init__(self) -> None:
        self.evaluations: list[Any] = []
        self.decisions: list[Any] = []

    def CreateEvaluation(self, request: Any, context: Any) -> Any:
        made = request.evaluation
        made.name = f"{request.parent}/evaluations/e{len(self.evaluations) + 1}"
        made.status.CopyFrom(DONE)
        made.scores.extend(SCORES)
        made.usages.extend([] if made.usages else [1, 2, 3])
        made.dataset_version = made.dataset_version or f"{P}/datasets/flowers/versions/V001"
        self.evaluations.append(made)
        return made

    def GetEvaluation(self, request: Any, context: Any) -> Any:
        return next(one for one in self.evaluations if one.name == request.name)

    def ListEvaluations(self, request: Any, context: Any) -> Any:
        return evaluator_service_pb2.ListEvaluationsResponse(evaluations=self.evaluations)

    def WatchEvaluation(self, request: Any, context: Any) -> Iterator[Any]:
        yield evaluator_service_pb2.WatchEvaluationResponse(sequence=2, evaluation=self.GetEvaluation(request, context))

    def CreateGateDecision(self, request: Any, context: Any) -> Any:
        made = request.gate_decision
        made.name = f"{request.parent}/gateDecisions/g{len(self.decisions) + 1}"
        low = any(floor.value > 0.91 for floor in made.floors)
        made.verdict = evaluator_pb2.VERDICT_BACK_TO_DATA if low else evaluator_pb2.VERDICT_DEPLOY
        made.reasons.append("accuracy is 0.91, the floor is higher" if low else "all tests passed")
        self.decisions.append(made)
        return made


class Exporter(exporter_service_pb2_grpc.ExporterServiceServicer):
    """Exports succeed at once; on `unmeasured` targets without a latency."""

    def __init__(self, artifacts: FakeArtifacts) -> None:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as opened:
            opened.writestr("bundle.json", "{}")
            opened.writestr("model.onnx", b"onnx")
        self.blob = artifacts.keep(archive.getvalue())
        self.asked: list[Any] = []
        self.exports: dict[str, Any] = {}
        self.imported: list[Any] = []
        self.targets: dict[str, Any] = {}

    def _finished(self, name: str, export: Any) -> Any:
        export.name, export.model_size_bytes = name, 4
        export.status.CopyFrom(DONE)
        export.artifact.CopyFrom(self.blob)
        export.format = export.format or exporter_pb2.FORMAT_ONNX
        export.precision = export.precision or exporter_pb2.PRECISION_FP32
        export.dataset_version = f"{P}/datasets/flowers/versions/V001"
        if export.target == "mcu":
            export.unmeasured_reason = "no mcu is here"
        else:
            export.latency.CopyFrom(learning_pb2.Latency(p50_ms=1.5, p95_ms=2.5, p99_ms=3.5, threads=2, target="cpu"))
        if export.HasField("limits"):
            export.trail.add(road="int8 after training", size_bytes=4, accepted=True, message="accepted: 4 bytes")
        self.exports[name] = export
        return export

    def CreateExport(self, request: Any, context: Any) -> Any:
        self.asked.append(exporter_pb2.Export.FromString(request.export.SerializeToString()))
        return self._finished(f"{request.parent}/exports/x{len(self.exports) + 1}", request.export)

    def ImportModel(self, request: Any, context: Any) -> Any:
        self.imported.append(request)
        export = exporter_pb2.Export(format=exporter_pb2.FORMAT_LITERT, origin=exporter_pb2.ORIGIN_IMPORTED)
        return self._finished(f"{request.parent}/exports/x{len(self.exports) + 1}", export)

    def GetExport(self, request: Any, context: Any) -> Any:
        if request.name not in self.exports:
            self._finished(request.name, exporter_pb2.Export(model_version=f"{P}/models/flowers/versions/V001"))
        return self.exports[request.name]

    def ListExports(self, request: Any, context: Any) -> Any:
        return exporter_service_pb2.ListExportsResponse(exports=reversed(self.exports.values()))

    def WatchExport(self, request: Any, context: Any) -> Iterator[Any]:
        yield exporter_service_pb2.WatchExportResponse(sequence=2, export=self.GetExport(request, context))

    def ListTargets(self, request: Any, context: Any) -> Any:
        cpu = exporter_pb2.Target(name=f"{P}/targets/cpu", local=True, predefined=True, display_name="This machine")
        return exporter_service_pb2.ListTargetsResponse(targets=[cpu, *self.targets.values()])

    def CreateTarget(self, request: Any, context: Any) -> Any:
        made = request.target
        made.name = f"{request.parent}/targets/{request.target_id}"
        self.targets[made.name] = made
        return made

    def DeleteTarget(self, request: Any, context: Any) -> Any:
        if request.name not in self.targets:
            abort(context, grpc.StatusCode.NOT_FOUND, "TARGET_NOT_FOUND", f"there is no {request.name}")
        del self.targets[request.name]
        return Empty()


class Serving(serving_service_pb2_grpc.ServingServiceServicer):
    def __init__(self) -> None:
        self.requests: list[Any] = []

    def CreateEndpoint(self, request: Any, context: Any) -> Any:
        return serving_pb2.Endpoint(name=f"{request.parent}/endpoints/{request.endpoint_id}")

    def CreateDeployment(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        deployment = request.deployment
        deployment.name = f"{request.parent}/deployments/{request.deployment_id or 'V001'}"
        return deployment

    def GetEndpoint(self, request: Any, context: Any) -> Any:
        return self._endpoint(request.name)

    def _endpoint(self, name: str) -> Any:
        """V001 has 90 %, V002 has 10 %, is the canary and is asked beside for half."""
        states = serving_pb2.Deployment.STATE_READY, serving_pb2.Deployment.STATE_UNHEALTHY
        return serving_pb2.Endpoint(
            name=name,
            default_version="V001",
            deployments=[
                serving_pb2.Deployment(name=f"{name}/deployments/V00{at + 1}", state=state) for at, state in enumerate(states)
            ],
            traffic=[
                serving_pb2.TrafficShare(deployment="V001", percent=90),
                serving_pb2.TrafficShare(deployment="V002", percent=10),
            ],
            labels=[serving_pb2.Label(label="canary", deployment="V002")],
            shadow=serving_pb2.Shadow(deployment="V002", percent=50),
            rollback_policy=serving_pb2.RollbackPolicy(
                window=duration_pb2.Duration(seconds=600), max_error_rate=0.01, max_latency_ratio=2, min_requests=50
            ),
            etag="e1",
        )

    def UpdateEndpoint(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        if any(share.deployment == "V009" for share in request.endpoint.traffic):
            message = "endpoint.traffic gives requests to V009, which is FAILED; only a version that is READY can take them"
            abort(context, grpc.StatusCode.FAILED_PRECONDITION, "VERSION_NOT_READY", message, "endpoint.traffic")
        return self._endpoint(request.endpoint.name)

    def RollbackEndpoint(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return self._endpoint(request.name)

    def GetShadowReport(self, request: Any, context: Any) -> Any:
        return serving_pb2.ShadowReport(
            endpoint=request.name, deployment="V002", requests=200, skipped=7, examples=200, agreed=190, max_difference=0.25
        )

    def GetDeploymentStatistics(self, request: Any, context: Any) -> Any:
        drift = serving_pb2.Drift(
            feature="age",
            direction=serving_pb2.Drift.DIRECTION_INPUT,
            score=0.31,
            examples=500,
            level=serving_pb2.Drift.LEVEL_STRONG,
            note="age 60 to 75: 4 % in training, 31 % now",
        )
        return serving_pb2.DeploymentStatistics(
            deployment=request.name, successes=1234, failures=5, p50_ms=1.5, p99_ms=8.25, memory_bytes=120_000_000, drift=[drift]
        )

    def ListEndpoints(self, request: Any, context: Any) -> Any:
        return serving_service_pb2.ListEndpointsResponse(endpoints=[serving_pb2.Endpoint(name=f"{P}/endpoints/flowers")])

    def DeleteEndpoint(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        return Empty()

    DeleteDeployment = DeleteEndpoint

    def ListDeploymentEvents(self, request: Any, context: Any) -> Any:
        """V001 at 10:00, V002 with 10 % at 11:00 (UTC)."""
        kinds = serving_pb2.DeploymentEvent
        events: list[Any] = []
        for at, shares in ((1, {"V001": 100}), (2, {"V001": 90, "V002": 10})):
            event = kinds(
                sequence=at,
                kind=kinds.KIND_DEPLOYED,
                deployment=f"{request.parent}/deployments/V00{at}",
                artifact_sha256=f"{at}" * 64,
                traffic=[serving_pb2.TrafficShare(deployment=version, percent=percent) for version, percent in shares.items()],
                detail=f"V00{at} came",
            )
            event.time.FromJsonString(f"2026-11-21T{9 + at}:00:00Z")
            events.insert(0, event)
        return serving_service_pb2.ListDeploymentEventsResponse(deployment_events=events)


class Inference(oip_grpc.GRPCInferenceServiceServicer):
    """Says rose with 0.75 to everything."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        column = oip.ModelMetadataResponse.TensorMetadata(name="age", datatype="FP32", shape=[-1, 1])
        return oip.ModelMetadataResponse(name=request.name, inputs=[column])

    def ModelInfer(self, request: Any, context: Any) -> Any:
        count = request.inputs[0].shape[0]
        self.batches.append(count)
        output = oip.ModelInferResponse.InferOutputTensor
        probabilities = output(name="probabilities", datatype="FP32", shape=[count, 2])
        answer = oip.ModelInferResponse(model_name=request.model_name, model_version=request.model_version or "V001")
        answer.outputs.extend([probabilities, output(name="label", datatype="BYTES", shape=[count])])
        answer.raw_output_contents.extend([struct.pack("<2f", 0.75, 0.25) * count, pack_bytes([b"rose"] * count)])
        return answer


class Pipelines(pipeline_service_pb2_grpc.PipelineServiceServicer):
    """Runs go through one training point and end as `ending` says: deploy, refuse, fail, or hang (until the client goes)."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.runs: dict[str, Any] = {}
        self.cancelled: list[str] = []
        self.ending = "deploy"
        self.watched = threading.Event()

    def CreatePipelineRun(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        run = request.pipeline_run
        if run.split.train_ratio == "1.5":
            message = "train_ratio is '1.5'; give a number above 0 and below 1 with one to five decimals"
            field = "pipeline_run.split.train_ratio"
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_RATIO", message, field, train_ratio="1.5")
        run.name = f"{request.parent}/pipelineRuns/run-1"
        run.status.state = job_pb2.JOB_STATE_QUEUED
        self.runs[run.name] = run
        return run

    def GetPipelineRun(self, request: Any, context: Any) -> Any:
        if request.name not in self.runs:
            abort(context, grpc.StatusCode.NOT_FOUND, "NOT_FOUND", f"there is no {request.name}")
        return self.runs[request.name]

    def ListPipelineRuns(self, request: Any, context: Any) -> Any:
        return pipeline_service_pb2.ListPipelineRunsResponse(pipeline_runs=self.runs.values())

    def CancelPipelineRun(self, request: Any, context: Any) -> Any:
        self.cancelled.append(request.name)
        self.runs[request.name].status.state = job_pb2.JOB_STATE_CANCELLED
        return self.runs[request.name]

    def WatchPipelineRun(self, request: Any, context: Any) -> Iterator[Any]:
        run = self.runs[request.name]
        run.status.state = RUNNING
        step = pipeline_pb2.PipelineStep(step_id="train", state=RUNNING, message="tinynet", resource=f"{P}/trainingJobs/job-9")
        del run.steps[:]
        run.steps.append(step)
        point = trainer_pb2.TrainingPoint(step=1, epoch=1.0, loss=0.5, learning_rate=0.01, metrics={"accuracy": 0.8})
        yield pipeline_service_pb2.WatchPipelineRunResponse(sequence=1, pipeline_run=run, points=[point])
        self.watched.set()
        if self.ending == "hang":
            threading.Event().wait(60)
        self._end(run)
        yield pipeline_service_pb2.WatchPipelineRunResponse(sequence=2, pipeline_run=run)

    def _end(self, run: Any) -> None:
        run.steps[0].state = SUCCEEDED
        if self.ending == "fail":
            run.status.state = FAILED
            error = status_of(grpc.StatusCode.FAILED_PRECONDITION, "ONE_CLASS", "the data has one class: rose", label="rose")
            run.status.error.CopyFrom(error)
            return
        run.status.state, run.status.reason = SUCCEEDED, "COMPLETED"
        result = run.result
        result.dataset_version = f"{P}/datasets/flowers/versions/V001"
        result.model_version = f"{P}/models/flowers/versions/V001"
        result.recipe_id, result.export_sha256 = "tinynet", "a" * 64
        result.scores.extend(SCORES)
        result.latency.CopyFrom(learning_pb2.Latency(p50_ms=1.5, p95_ms=2.5))
        result.train_duration.FromMilliseconds(12_500)
        result.candidates.append(exporter_pb2.CandidateLatency(recipe_id="tinynet", size_bytes=5))
        result.gate_decision.verdict = evaluator_pb2.VERDICT_DEPLOY
        result.gate_decision.reasons.append("all tests passed")
        if self.ending == "refuse":
            result.gate_decision.verdict = evaluator_pb2.VERDICT_BACK_TO_DATA
            result.gate_decision.reasons[:] = ["accuracy is 0.91, the floor is 0.95"]
            result.gate_decision.examples.add(example_id="e1", usage=1, label="rose", prediction="tulip", probability=0.97)
            result.gate_decision.examples.add(example_id="e1x", usage=1, label="rose", prediction="tulip", probability=0.5)
        else:
            result.endpoint = f"{P}/endpoints/flowers"


class Yard:
    """All of them on one port."""

    def __init__(self) -> None:
        self.artifacts = FakeArtifacts()
        self.datasets, self.trainer, self.evaluator = Datasets(self.artifacts), Trainer(), Evaluator()
        self.exporter, self.serving, self.inference, self.pipelines = (
            Exporter(self.artifacts),
            Serving(),
            Inference(),
            Pipelines(),
        )
        self.server = Server(self._mount)

    @property
    def address(self) -> str:
        return self.server.address

    def _mount(self, server: grpc.Server) -> None:
        artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(self.artifacts, server)
        dataset_service_pb2_grpc.add_DatasetServiceServicer_to_server(self.datasets, server)
        trainer_service_pb2_grpc.add_TrainerServiceServicer_to_server(self.trainer, server)
        evaluator_service_pb2_grpc.add_EvaluatorServiceServicer_to_server(self.evaluator, server)
        exporter_service_pb2_grpc.add_ExporterServiceServicer_to_server(self.exporter, server)
        serving_service_pb2_grpc.add_ServingServiceServicer_to_server(self.serving, server)
        oip_grpc.add_GRPCInferenceServiceServicer_to_server(self.inference, server)
        pipeline_service_pb2_grpc.add_PipelineServiceServicer_to_server(self.pipelines, server)
