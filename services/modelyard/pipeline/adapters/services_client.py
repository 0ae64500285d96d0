"""The other services, through modelyard.client. Messages become JSON in the form of their contracts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from modelyard.core import names
from modelyard.core.client_errors import named_errors
from modelyard.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.jobs import convert
from modelyard.core.jobs.job import Document
from modelyard.dataset.v1 import dataset_pb2
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.exporter.v1 import exporter_pb2
from modelyard.pipeline.adapters.errors import error_in
from modelyard.pipeline.domain.choice import Candidate
from modelyard.pipeline.domain.spec import Source, Split, TargetFacts
from modelyard.pipeline.ports import Decided, ExportWish, JobView, Question, Services, VersionFound
from modelyard.trainer.v1 import selection_pb2, trainer_pb2
from modelyard.type.v1 import job_pb2, learning_pb2

if TYPE_CHECKING:
    from modelyard.client import Client

M = TypeVar("M", bound=Message)
REPEATED_BY_RUN = "a pipeline run trains a version of its own"
"""Why an experiment that exists is run again: each run of a pipeline makes a version, also of the same data and recipe."""
NO_FINDINGS_BEYOND = 20
"""Findings of a quality report that are copied into a run; the report has them all."""


def services_over(client: Client) -> Services:
    """The ports over a client of one project."""
    return Services(
        ClientDatasets(client), ClientTraining(client), ClientExports(client), ClientEvaluations(client), ClientEndpoints(client)
    )


def to_json(message: Message) -> Document:
    """A message as JSON."""
    document: Document = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return document


def from_json(document: Document, kind: type[M]) -> M:
    """A message of such JSON; fields that are not known (of a later version) are passed over."""
    return json_format.ParseDict(document, kind(), ignore_unknown_fields=True)


def _view(message: Any, point: Document | None = None) -> JobView:
    status: job_pb2.JobStatus = message.status
    return JobView(
        name=message.name,
        state=job_pb2.JobState.Name(status.state).removeprefix("JOB_STATE_"),
        reason=status.reason,
        stage=status.progress.stage,
        fraction=status.progress.fraction,
        eta_s=status.progress.eta.ToNanoseconds() / 1e9 if status.progress.HasField("eta") else None,
        error=error_in(status),
        found=to_json(message) if status.state == job_pb2.JOB_STATE_SUCCEEDED else {},
        point=point,
    )


def _call(methods: dict[names.Pattern, Callable[[str], Any]], name: str) -> Any:
    """Calls the method for this kind of name."""
    with named_errors():
        return next(method for pattern, method in methods.items() if pattern.matches(name))(name)


def _cancel(methods: dict[names.Pattern, Callable[[str], Any]], name: str) -> None:
    try:
        _call(methods, name)
    except (FailedPrecondition, NotFound):
        return  # it has ended


class ClientDatasets:
    """ports.Datasets."""

    def __init__(self, client: Client) -> None:
        self._client = client.datasets

    def check(self, dataset: str) -> None:
        with named_errors():
            self._client.get_dataset(dataset)

    def ensure(self, dataset: str, request_id: str) -> bool:
        try:
            with named_errors():
                self._client.create_dataset(names.id_of(dataset), request_id=request_id)
        except AlreadyExists:
            return False
        return True

    def discard_if_empty(self, dataset: str) -> None:
        with named_errors():
            found = self._client.get_dataset(dataset)
            if not found.current_import and not found.latest_version:
                self._client.delete_dataset(dataset, etag=found.etag)

    def start_import(self, source: Source, request_id: str) -> str:
        with named_errors():
            blob = convert.blob_message(source.blob)
            if blob is None:
                raise AssertionError("a source has a blob")
            started = self._client.create_import(
                source.dataset,
                blob,
                file_name=source.file_name,
                format=dataset_pb2.SourceFormat.Value(source.format or "SOURCE_FORMAT_UNSPECIFIED"),
                task=learning_pb2.Task.Value(source.task or "TASK_UNSPECIFIED"),
                label_column=source.label_column,
                request_id=request_id,
            )
        return started.name

    def start_report(self, dataset: str, request_id: str) -> str:
        with named_errors():
            # A run does not wait for every example to be read: the trained model judges the labels better.
            return self._client.create_quality_report(dataset, depth="quick", request_id=request_id).name

    def start_version(self, dataset: str, version_id: str, split: Split, excluded: Sequence[str], request_id: str) -> str:
        source = dataset_pb2.SplitPolicy.Source.Value(split.source or "SOURCE_UNSPECIFIED")
        policy = dataset_pb2.SplitPolicy(
            train_ratio=split.train_ratio,
            source=source,
            seed=split.seed,
            group_by=split.group_by,
            time_by=split.time_by,
            test_where=split.test_where,
            validation_where=split.validation_where,
        )
        with named_errors():
            return self._client.create_dataset_version(
                dataset, dataset_version_id=version_id, split=policy, excluded_columns=excluded, request_id=request_id
            ).name

    def version(self, name: str) -> VersionFound:
        with named_errors():
            found = self._client.get_dataset_version(name)
        return VersionFound(
            name=found.name,
            task=_task(found.task),
            state=job_pb2.JobState.Name(found.status.state).removeprefix("JOB_STATE_"),
        )

    def job(self, name: str) -> JobView:
        client = self._client
        message = _call(
            {
                names.IMPORT: client.get_import,
                names.QUALITY_REPORT: client.get_quality_report,
                names.DATASET_VERSION: client.get_dataset_version,
            },
            name,
        )
        if isinstance(message, dataset_pb2.QualityReport):
            del message.findings[NO_FINDINGS_BEYOND:]
            for finding in message.findings:  # the run keeps what is said, not what would mend it
                finding.ClearField("fix")
                finding.ClearField("fix_scores")
        return _view(message)

    def cancel(self, name: str) -> None:
        client = self._client
        _cancel(
            {
                names.IMPORT: client.cancel_import,
                names.QUALITY_REPORT: client.cancel_quality_report,
                names.DATASET_VERSION: client.cancel_dataset_version,
            },
            name,
        )


class ClientTraining:
    """ports.Training."""

    def __init__(self, client: Client) -> None:
        self._client = client.training
        self._selections = client.selections
        self._models = client.models
        self._jobs = client.jobs

    def suggest(self, dataset_version: str, *, sizes: bool = False) -> list[Document]:
        with named_errors():
            return [to_json(recipe) for recipe in self._client.suggest_recipes(dataset_version, sizes=sizes)]

    def version(self, model_version: str) -> tuple[str, Document]:
        with named_errors():
            found = self._models.get_model_version(model_version)
        return found.name, to_json(found.recipe)

    def check_flavor(self, instance_flavor: str) -> None:
        with named_errors():
            known = [flavor.name for flavor in self._jobs.list_instance_flavors()]
        if instance_flavor not in known:
            field, names_ = "pipeline_run.instance_flavor", ", ".join(known)
            message = f"{field} is {instance_flavor[:80]!r}; it must be one of {names_}, or empty for the default ones"
            raise InvalidArgument("UNKNOWN_INSTANCE_FLAVOR", message, field=field, value=instance_flavor[:80], known=names_)

    def start(
        self,
        dataset_version: str,
        model: str,
        recipe: Document,
        max_s: float | None,
        warm_start: str,
        request_id: str,
        instance_flavor: str = "",
    ) -> str:
        job = trainer_pb2.TrainingJob(
            dataset_version=dataset_version,
            model=model,
            recipe=from_json(recipe, trainer_pb2.Recipe),
            max_training_time=convert.duration(max_s),
            instance_flavor=instance_flavor,
            repeat_reason=REPEATED_BY_RUN,
        )
        if warm_start:
            job.warm_start_model_version = warm_start
        with named_errors():
            return self._client.create_training_job(job, request_id=request_id).name

    def start_selection(
        self,
        dataset_version: str,
        model: str,
        recipes: Sequence[Document],
        max_s: float,
        request_id: str,
        instance_flavor: str = "",
    ) -> str:
        with named_errors():
            return self._selections.create_model_selection(
                dataset_version,
                model,
                max_s,
                recipes=[from_json(recipe, trainer_pb2.Recipe) for recipe in recipes],
                instance_flavor=instance_flavor,
                request_id=request_id,
            ).name

    def job(self, name: str) -> JobView:
        methods = {
            names.TRAINING_JOB: self._client.get_training_job,
            names.MODEL_SELECTION: self._selections.get_model_selection,
        }
        job = _call(methods, name)
        view = _view(job, to_json(job.latest_point) if job.HasField("latest_point") else None)
        return replace(view, found=to_json(job)) if isinstance(job, selection_pb2.ModelSelection) else view

    def cancel(self, name: str) -> None:
        methods = {
            names.TRAINING_JOB: self._client.cancel_training_job,
            names.MODEL_SELECTION: self._selections.cancel_model_selection,
        }
        _cancel(methods, name)


class ClientExports:
    """ports.Exports."""

    def __init__(self, client: Client) -> None:
        self._client = client.exports
        self._profiles = client.profiles
        self._targets = client.targets

    def start_profile(self, dataset_version: str, recipes: Sequence[Document], target: str, request_id: str) -> str:
        wanted = [from_json(recipe, trainer_pb2.Recipe) for recipe in recipes]
        with named_errors():
            return self._profiles.create_latency_profile(dataset_version, wanted, target=target, request_id=request_id).name

    def candidates(self, profile: JobView) -> list[Candidate]:
        measured = profile.found.get("candidates", [])
        asked = [*profile.found.get("recipes", []), *({} for _ in measured)]
        ids = [entry.get("recipe_id", "") for entry in measured]
        return [
            Candidate(
                entry.get("recipe_id", "") + (_input(recipe) if ids.count(entry.get("recipe_id", "")) > 1 else ""),
                entry.get("latency", {}).get("p95_ms"),
                entry.get("error_message", ""),
                entry.get("unmeasured_reason", ""),
                int(entry.get("size_bytes", 0)),
            )
            for entry, recipe in zip(measured, asked, strict=False)
        ]

    def target(self, target: str) -> TargetFacts:
        with named_errors():
            found = self._targets.get_target(target)
        measurable = found.local or bool(found.agent)
        return TargetFacts(
            _short(exporter_pb2.Format, found.format),
            _short(exporter_pb2.Precision, found.precision),
            measurable,
            found.flash_bytes,
        )

    def task(self, export: str) -> str:
        with named_errors():
            return _task(self._client.get_export(export).task)

    def start_export(self, wish: ExportWish, request_id: str) -> str:
        limits = exporter_pb2.CompressionLimits(**vars(wish.limits)) if wish.limits else None
        with named_errors():
            return self._client.create_export(
                wish.model_version,
                format=wish.format,
                precision=wish.precision,
                quantization="aware_training" if wish.aware else "",
                target=wish.target,
                limits=limits,
                max_training_s=wish.max_training_s,
                instance_flavor=wish.instance_flavor,
                request_id=request_id,
            ).name

    def job(self, name: str) -> JobView:
        methods = {names.EXPORT: self._client.get_export, names.LATENCY_PROFILE: self._profiles.get_latency_profile}
        return _view(_call(methods, name))

    def cancel(self, name: str) -> None:
        methods = {names.EXPORT: self._client.cancel_export, names.LATENCY_PROFILE: self._profiles.cancel_latency_profile}
        _cancel(methods, name)


class ClientEvaluations:
    """ports.Evaluations."""

    def __init__(self, client: Client) -> None:
        self._client = client.evaluations
        self._gate = client.gate

    def start(self, export: str, dataset_version: str, request_id: str) -> str:
        with named_errors():
            return self._client.create_evaluation(export, dataset_version=dataset_version, request_id=request_id).name

    def decide(self, question: Question, request_id: str) -> Decided:
        with named_errors():
            decision = self._gate.create_gate_decision(
                question.evaluation,
                floors=[learning_pb2.Floor(metric=floor.metric, value=floor.value) for floor in question.floors],
                class_floors=[evaluator_pb2.ClassFloor(**vars(floor)) for floor in question.class_floors],
                latency=from_json(question.latency, learning_pb2.Latency) if question.latency else None,
                max_latency_ms=question.max_ms,
                max_loss=question.max_loss,
                max_size_bytes=question.max_size_bytes,
                model_size_bytes=question.model_size_bytes,
                parent_evaluation=question.parent,
                incumbent_evaluation=question.incumbent,
                quantized=question.quantized,
                quantization_aware=question.aware,
                request_id=request_id,
            )
        return Decided(decision.name, _verdict(decision), tuple(decision.reasons), to_json(decision))

    def job(self, name: str) -> JobView:
        with named_errors():
            return _view(self._client.get_evaluation(name))

    def cancel(self, name: str) -> None:
        _cancel({names.EVALUATION: self._client.cancel_evaluation}, name)


class ClientEndpoints:
    """ports.Endpoints."""

    def __init__(self, client: Client) -> None:
        self._client = client.endpoints

    def ensure(self, endpoint: str, request_id: str) -> bool:
        try:
            with named_errors():
                self._client.create_endpoint(names.id_of(endpoint), request_id=request_id)
        except AlreadyExists:
            return False
        return True

    def discard_if_empty(self, endpoint: str) -> None:
        with named_errors():
            if not self._client.get_endpoint(endpoint).deployments:
                self._client.delete_endpoint(endpoint)

    def serving(self, endpoint: str) -> str:
        try:
            with named_errors():
                found = self._client.get_endpoint(endpoint)
        except NotFound:
            return ""
        answering = {names.id_of(deployment.name): deployment.export for deployment in found.deployments}
        return answering.get(found.default_version, "")

    def deploy(self, endpoint: str, export: str, decision: str, request_id: str) -> str:
        with named_errors():
            return self._client.create_deployment(endpoint, export=export, gate_decision=decision, request_id=request_id).name


def _input(recipe: Document) -> str:
    """What tells a recipe from the same at another input."""
    return f" {recipe['input_width']}x{recipe['input_height']}" if recipe.get("input_height") else ""


def _task(task: learning_pb2.Task.ValueType) -> str:
    return learning_pb2.Task.Name(task).removeprefix("TASK_").lower()


def _short(enum: Any, number: int) -> str:
    """ "dynamic_int8" of PRECISION_DYNAMIC_INT8."""
    return str(enum.Name(number)).partition("_")[2].lower()


def _verdict(decision: evaluator_pb2.GateDecision) -> str:
    return evaluator_pb2.Verdict.Name(decision.verdict).removeprefix("VERDICT_")
