"""Which role each method needs, and where its request says in which project. A method that is not here is refused to everybody.

tests/unit/core/test_access_rules.py compares the table with the contracts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from modelyard.core.access.principal import Role


class Where(StrEnum):
    """How the project of a call is found."""

    RESOURCE = "resource"
    """A field holds a resource name: projects/{project}/..."""
    MODEL = "model"
    """A field holds the model name of the Open Inference Protocol: {endpoint} of the project default, or {project}.{endpoint}."""
    ARTIFACT = "artifact"
    """A field holds the URI of an artifact, which documents of projects name."""
    SERVER = "server"
    """It is about the whole server: the role is needed in "*"."""
    NOWHERE = "nowhere"
    """It tells nothing of any project: whoever is known may."""
    OPEN = "open"
    """Nobody is asked: probes."""
    JOB = "job"
    """The request carries a job's own token."""
    OWN = "own"
    """The servicer asks itself, with tokens of its own."""


@dataclass(frozen=True)
class Rule:
    """What a method needs. `field` is the path of the field that `where` speaks of. `changes`: it belongs in the audit log.
    `predicts`: it is of the data plane, for which inference tokens are.

    `each`: of a stream every message is checked, not the first alone.
    """

    role: Role
    where: Where = Where.RESOURCE
    field: str = "name"
    changes: bool = False
    predicts: bool = False
    each: bool = False


VIEW, ANNOTATE, EDIT, DEPLOY, ADMIN = Role.VIEWER, Role.ANNOTATOR, Role.EDITOR, Role.DEPLOYER, Role.ADMIN
DEFAULT_PROJECT: Final = "default"
INFERENCE: Final = "inference.GRPCInferenceService"
WORKERS: Final = "modelyard.worker.v1.WorkerService"

_read = Rule(VIEW)
_list = Rule(VIEW, field="parent")


def _create(role: Role) -> Rule:
    return Rule(role, field="parent", changes=True)


def _change(role: Role, field: str = "name") -> Rule:
    return Rule(role, field=field, changes=True)


_predict = Rule(VIEW, Where.MODEL, "model_name", predicts=True, each=True)
_model_info = Rule(VIEW, Where.MODEL, "name", predicts=True)
_harmless = Rule(VIEW, Where.NOWHERE, predicts=True)
_open = Rule(Role.NONE, Where.OPEN, predicts=True)
_worker = Rule(Role.NONE, Where.JOB, "identity")
_own = Rule(Role.NONE, Where.OWN)


def _job(name: str, plural: str, role: Role, *, watch: bool = True, cancel: bool = True) -> dict[str, Rule]:
    """The standard methods of something that runs."""
    rules = {f"Create{name}": _create(role), f"Get{name}": _read, f"List{plural}": _list}
    rules |= {f"Watch{name}": _read} if watch else {}
    return rules | ({f"Cancel{name}": _change(role)} if cancel else {})


_FLEET: Final = (
    "Enrol", "CreateChallenge", "OpenSession", "GetDesiredState", "WatchDesiredState", "DownloadBundle", "ReportState",
)  # fmt: skip
_UNUSED: Final = (
    "SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister", "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister", "CudaSharedMemoryUnregister", "TraceSetting", "LogSettings",
)  # fmt: skip
"""Of the Open Inference Protocol; they answer that there is nothing."""
_SERVICES: Final[Mapping[str, Mapping[str, Rule]]] = {
    "modelyard.dataset.v1.DatasetService": {
        "CreateDataset": _create(EDIT),
        "GetDataset": _read,
        "ListDatasets": _list,
        "UpdateDataset": _change(EDIT, "dataset.name"),
        "DeleteDataset": _change(EDIT),
        **_job("Import", "Imports", EDIT),
        **_job("QualityReport", "QualityReports", EDIT),
        **_job("DatasetVersion", "DatasetVersions", EDIT),
        "UpdateDatasetVersion": _change(EDIT, "dataset_version.name"),
        "DeleteDatasetVersion": _change(EDIT),
        "GetTag": _read,
        "ListTags": _list,
        "UpdateTag": _change(EDIT, "tag.name"),
        "DeleteTag": _change(EDIT),
        "CreateDatasetUse": _create(EDIT),
        "ListDatasetUses": _list,
        "DeleteDatasetUse": _change(EDIT),
        "CreateFolds": _create(EDIT),
        "GetFolds": _read,
        "ListExamples": _list,
        "ViewExamples": _list,
        "DiffDatasetVersions": _read,
        "ListExampleChanges": _list,
        **_job("DatasetExport", "DatasetExports", EDIT),
    },
    "modelyard.dataset.v1.AnnotationService": {
        "CreateLabelSchema": _create(EDIT),
        "GetLabelSchema": _read,
        "ListLabelSchemas": _list,
        "CreateAnnotationRound": _create(EDIT),
        "GetAnnotationRound": _read,
        "ListAnnotationRounds": _list,
        "UpdateAnnotationRound": _change(EDIT, "annotation_round.name"),
        "DeleteAnnotationRound": _change(EDIT),
        "ClaimAnnotationTasks": _create(ANNOTATE),
        **{f"{verb}AnnotationTask": _change(ANNOTATE) for verb in ("Skip", "Release", "Review")},
        **{f"{verb}Annotation": _change(ANNOTATE) for verb in ("Submit", "Withdraw")},
        **{f"Get{what}": _read for what in ("AnnotationTask", "TaskContent", "AnnotationStatistics", "AnnotationAgreement")},
        "ListAnnotationTasks": _list,
        "ListAnnotationEntries": _list,
        "ListUnlabelledExamples": _list,
        "GetExampleContent": _list,
        "ImportPreLabels": _create(EDIT),
        "ProposeExamples": _list,
        "PublishAnnotationRound": _change(EDIT),
        "ImportAnnotations": _create(EDIT),
        "ExportAnnotations": _change(EDIT),
    },
    "modelyard.trainer.v1.TrainerService": {
        **_job("TrainingJob", "TrainingJobs", EDIT),
        "StopTrainingJob": _change(EDIT),
        "DeleteTrainingJob": _change(EDIT),
        "UpdateTrainingJob": _change(EDIT, "training_job.name"),
        "AddTrainingRemark": _change(EDIT),
        "CompareTrainingJobs": _list,
        "ListRecipes": Rule(VIEW, Where.NOWHERE),
        "SuggestRecipes": Rule(VIEW, field="dataset_version"),
        **_job("RecipePreview", "RecipePreviews", EDIT),
        "GetModel": _read,
        "ListModels": _list,
        "UpdateModel": _change(EDIT, "model.name"),
        "GetModelVersion": _read,
        "ListModelVersions": _list,
        "UpdateModelVersion": _change(EDIT, "model_version.name"),
        "DeleteModelVersion": _change(EDIT),
    },
    "modelyard.trainer.v1.AdvisorService": {
        "AdviseTrainingJob": _read,
        **_job("AdvisedTraining", "AdvisedTrainings", EDIT),
        **_job("CrossValidation", "CrossValidations", EDIT),
    },
    "modelyard.trainer.v1.ModelSelectionService": {
        **_job("ModelSelection", "ModelSelections", EDIT),
        "StopModelSelection": _change(EDIT),
    },
    "modelyard.exporter.v1.ExporterService": {
        **_job("Export", "Exports", EDIT),
        "DeleteExport": _change(EDIT),
        "ImportModel": _create(EDIT),
        "CreateTarget": _create(EDIT),
        "GetTarget": _read,
        "ListTargets": _list,
        "DeleteTarget": _change(EDIT),
        **_job("LatencyProfile", "LatencyProfiles", EDIT),
    },
    "modelyard.evaluator.v1.EvaluatorService": {
        **_job("Evaluation", "Evaluations", EDIT),
        "ListPredictions": _list,
        "GetEvaluationCurves": _read,
        "CreateGateDecision": _create(EDIT),
        "GetGateDecision": _read,
        "ListGateDecisions": _list,
    },
    "modelyard.pipeline.v1.PipelineService": _job("PipelineRun", "PipelineRuns", DEPLOY),
    "modelyard.pipeline.v1.ReevaluationService": {
        "CreateReevaluation": _create(DEPLOY),
        "GetReevaluation": _read,
        "ListReevaluations": _list,
        "DeleteReevaluation": _change(DEPLOY),
        "RunReevaluation": _change(DEPLOY),
    },
    "modelyard.serving.v1.ServingService": {
        "CreateEndpoint": _create(DEPLOY),
        "GetEndpoint": _read,
        "ListEndpoints": _list,
        "UpdateEndpoint": _change(DEPLOY, "endpoint.name"),
        "DeleteEndpoint": _change(DEPLOY),
        "RollbackEndpoint": _change(DEPLOY),
        "GetShadowReport": _read,
        "CreateDeployment": _create(DEPLOY),
        "GetDeployment": _read,
        "GetDeploymentStatistics": _read,
        "DeleteDeployment": _change(DEPLOY),
        "ListDeploymentEvents": _list,
    },
    "modelyard.serving.v1.DeviceService": {
        "CreateEnrolmentToken": _create(DEPLOY),
        "ListEnrolmentTokens": Rule(DEPLOY, field="parent"),
        "DeleteEnrolmentToken": _change(DEPLOY),
        "GetDevice": _read,
        "ListDevices": _list,
        "UpdateDevice": _change(DEPLOY, "device.name"),
        "RevokeDevice": _change(DEPLOY),
        "DeleteDevice": _change(DEPLOY),
        "CreateRollout": _create(DEPLOY),
        "GetRollout": _read,
        "ListRollouts": _list,
        **{f"{verb}Rollout": _change(DEPLOY) for verb in ("Pause", "Resume", "Cancel", "Revert")},
    },
    "modelyard.serving.v1.FleetService": dict.fromkeys(_FLEET, _own),
    "modelyard.artifact.v1.ArtifactService": {
        "UploadArtifact": Rule(EDIT, field="header.parent", changes=True),
        "GetUpload": Rule(EDIT, field="parent"),
        "DownloadArtifact": Rule(VIEW, Where.ARTIFACT, "uri"),
    },
    "modelyard.access.v1.AccessService": {
        "GetCaller": Rule(VIEW, Where.NOWHERE),
        "ListAuditEvents": Rule(ADMIN, field="parent"),
        "GetUsage": _read,
    },
    "modelyard.serving.v1.InferenceTokenService": {
        "CreateInferenceToken": _create(DEPLOY),
        "ListInferenceTokens": Rule(DEPLOY, field="parent"),
        "DeleteInferenceToken": _change(DEPLOY),
    },
    "modelyard.jobs.v1.JobsService": {
        "ListInstanceFlavors": Rule(VIEW, Where.NOWHERE),
        "GetJobLog": Rule(EDIT),
        "WatchJobLog": Rule(EDIT),
    },
    WORKERS: dict.fromkeys(("GetAssignment", "Report", "Complete", "Fail"), _worker),
    INFERENCE: {
        "ServerLive": _open,
        "ServerReady": _open,
        "ServerMetadata": _harmless,
        "ModelReady": _model_info,
        "ModelMetadata": _model_info,
        "ModelConfig": _model_info,
        "ModelStatistics": _model_info,
        "ModelInfer": _predict,
        "ModelStreamInfer": _predict,
        "RepositoryIndex": Rule(VIEW, Where.SERVER, predicts=True),
        "RepositoryModelLoad": Rule(DEPLOY, Where.MODEL, "model_name", changes=True),
        "RepositoryModelUnload": Rule(DEPLOY, Where.MODEL, "model_name", changes=True),
        **dict.fromkeys(_UNUSED, _harmless),
    },
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": Rule(VIEW, Where.NOWHERE)},
}

RULES: Final[Mapping[str, Rule]] = {
    f"/{service}/{method}": rule for service, methods in _SERVICES.items() for method, rule in methods.items()
}
"""By path: /package.Service/Method."""

_MODEL_PATH: Final = r"/v2/models/(?P<model>[^/]+)(?:/versions/[^/]*)?"
HTTP_RULES: Final = tuple(
    (method, re.compile(pattern), rule)
    for method, pattern, rule in (
        ("GET", r"/v2/health/(live|ready)", _open),
        ("GET", r"/v2", _harmless),
        ("GET", r"/v2/models/stats", Rule(VIEW, Where.SERVER, predicts=True)),
        ("POST", rf"{_MODEL_PATH}/infer", _predict),
        ("GET", rf"{_MODEL_PATH}(/(ready|config|stats))?", _model_info),
        ("POST", r"/v2/repository/index", Rule(VIEW, Where.SERVER, predicts=True)),
        ("POST", r"/v2/repository/models/(?P<model>[^/]+)/(load|unload)", Rule(DEPLOY, Where.MODEL, changes=True)),
        ("GET", r"/v2/(system|cuda)sharedmemory(/region/[^/]*)?/status", _harmless),
        ("POST", r"/v2/(system|cuda)sharedmemory(/region/[^/]*)?/(un)?register", _harmless),
        ("GET", r"/v2(/models/[^/]*)?/trace/setting", _harmless),
        ("POST", r"/v2(/models/[^/]*)?/trace/setting", _harmless),
        ("GET", r"/v2/logging", _harmless),
        ("POST", r"/v2/logging", _harmless),
        ("GET", r"/metrics", Rule(VIEW, Where.SERVER, predicts=True)),
    )
)
"""By HTTP method and path; the first that fits. HEAD counts as GET."""


def http_rule(method: str, path: str) -> tuple[Rule, str] | None:
    """The rule of a request and the model its path names (may be empty); None when there is none."""
    path = path.rstrip("/") or "/"
    for known, pattern, rule in HTTP_RULES:
        found = pattern.fullmatch(path)
        if found and known == ("GET" if method == "HEAD" else method):
            return rule, found.groupdict().get("model") or ""
    return None


def endpoint_of_model(model: str) -> tuple[str, str]:
    """Project and endpoint's resource name of a model name of the Open Inference Protocol (serving/domain/names.py)."""
    project, dot, endpoint = model.partition(".")
    if not dot:
        project, endpoint = DEFAULT_PROJECT, model
    return project, f"projects/{project}/endpoints/{endpoint}"
