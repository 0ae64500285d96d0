"""EvaluatorService: convert, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from modelyard.core import names
from modelyard.core.requests import Request
from modelyard.core.resources import naming
from modelyard.core.rpc.requests import fingerprint
from modelyard.evaluator.handlers.answers import list_predictions, read_curves, read_residuals
from modelyard.evaluator.handlers.decisions import COLLECTION, Deciding, create_decision
from modelyard.evaluator.handlers.evaluations import KIND, create_evaluation
from modelyard.evaluator.ports import DatasetVersions, Exports
from modelyard.evaluator.rpc import convert
from modelyard.evaluator.v1 import evaluator_pb2 as pb
from modelyard.evaluator.v1 import evaluator_service_pb2 as messages
from modelyard.evaluator.v1.evaluator_service_pb2_grpc import EvaluatorServiceServicer


class EvaluatorServicer(EvaluatorServiceServicer):
    """Evaluations and gate decisions."""

    def __init__(self, deciding: Deciding, exports: Exports, versions: DatasetVersions) -> None:
        self._deciding = deciding
        self._jobs = deciding.jobs
        self._resources = deciding.resources
        self._exports = exports
        self._versions = versions

    def CreateEvaluation(self, request: messages.CreateEvaluationRequest, context: Any) -> pb.Evaluation:
        """Starts an evaluation; returns at once."""
        job = create_evaluation(
            self._jobs,
            self._exports,
            self._versions,
            parent=request.parent,
            export=request.evaluation.export,
            dataset_version=request.evaluation.dataset_version,
            usages=convert.usage_names(request.evaluation.usages),
            slice_columns=tuple(request.evaluation.slice_columns),
            request=Request(request.request_id, "CreateEvaluation", fingerprint(request), request.evaluation.instance_flavor),
        )
        return convert.evaluation_message(job)

    def GetEvaluation(self, request: messages.GetEvaluationRequest, context: Any) -> pb.Evaluation:
        """Reads an evaluation."""
        names.EVALUATION.parse(request.name)
        return convert.evaluation_message(self._jobs.get(request.name))

    def ListEvaluations(self, request: messages.ListEvaluationsRequest, context: Any) -> messages.ListEvaluationsResponse:
        """Lists the evaluations of a project, newest first."""
        names.PROJECT.parse(request.parent, "parent")
        for at, export in enumerate(request.exports):
            names.EXPORT.parse(export, f"exports[{at}]")
        of = naming("export", request.exports, "exports")
        page = self._jobs.list(KIND, request.parent, request.page_size, request.page_token, naming=of)
        return messages.ListEvaluationsResponse(
            evaluations=[convert.evaluation_summary(job) for job in page.items], next_page_token=page.next_page_token
        )

    async def WatchEvaluation(
        self, request: messages.WatchEvaluationRequest, context: Any
    ) -> AsyncIterator[messages.WatchEvaluationResponse]:
        """Sends the evaluation now and at every change until it ends."""
        names.EVALUATION.parse(request.name)
        async for change in self._jobs.watch(request.name, request.after_sequence):
            evaluation = convert.evaluation_message(change.job)
            yield messages.WatchEvaluationResponse(sequence=change.sequence, evaluation=evaluation)

    def CancelEvaluation(self, request: messages.CancelEvaluationRequest, context: Any) -> pb.Evaluation:
        """Cancels a running evaluation."""
        names.EVALUATION.parse(request.name)
        return convert.evaluation_message(self._jobs.cancel(request.name))

    def ListPredictions(self, request: messages.ListPredictionsRequest, context: Any) -> messages.ListPredictionsResponse:
        """Lists what the model says of single examples, those it is surest of first."""
        chosen = (convert.usage_name(request.usage), request.label, request.prediction)
        found, token, total = list_predictions(
            self._jobs,
            self._deciding.predictions,
            request.parent,
            chosen,
            request.page_size,
            request.page_token,
            request.example_ids,
        )
        shown = [convert.example_score(each) for each in found]
        return messages.ListPredictionsResponse(predictions=shown, next_page_token=token, total_size=total)

    def GetEvaluationCurves(self, request: messages.GetEvaluationCurvesRequest, context: Any) -> messages.EvaluationCurves:
        """Curves of a classifier, or residuals of a regression."""
        usage = convert.usage_name(request.usage)
        curves, bins = read_curves(self._jobs, self._deciding.predictions, request.name, usage)
        message = convert.curves_message(curves, bins)
        if not bins and (found := read_residuals(self._jobs, self._deciding.predictions, request.name, usage)) is not None:
            message.residuals.CopyFrom(convert.residuals_message(*found))
        return message

    def CreateGateDecision(self, request: messages.CreateGateDecisionRequest, context: Any) -> pb.GateDecision:
        """Decides about an evaluated artifact."""
        resource = create_decision(
            self._deciding,
            parent=request.parent,
            wanted=convert.wanted_from(request.gate_decision),
            request=Request(request.request_id, "CreateGateDecision", fingerprint(request)),
        )
        return convert.decision_message(resource)

    def GetGateDecision(self, request: messages.GetGateDecisionRequest, context: Any) -> pb.GateDecision:
        """Reads a decision."""
        names.GATE_DECISION.parse(request.name)
        return convert.decision_message(self._resources.get(request.name))

    def ListGateDecisions(self, request: messages.ListGateDecisionsRequest, context: Any) -> messages.ListGateDecisionsResponse:
        """Lists the decisions of a project, newest first."""
        names.PROJECT.parse(request.parent, "parent")
        for at, evaluation in enumerate(request.evaluations):
            names.EVALUATION.parse(evaluation, f"evaluations[{at}]")
        of = naming("evaluation", request.evaluations, "evaluations")
        page = self._resources.list(COLLECTION, request.parent, request.page_size, request.page_token, naming=of)
        return messages.ListGateDecisionsResponse(
            gate_decisions=[convert.decision_message(resource) for resource in page.items], next_page_token=page.next_page_token
        )
