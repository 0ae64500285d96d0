"""Evaluations and gate decisions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from modelyard.client._async.resource import AsyncResource, OnChange
from modelyard.client._messages import Floors, floor_messages
from modelyard.client.enums import enum_number
from modelyard.client.names import new_request_id
from modelyard.evaluator.v1 import evaluator_pb2, evaluator_service_pb2
from modelyard.type.v1 import learning_pb2


class AsyncEvaluations(AsyncResource):
    """Scores of exported bytes. Names may be short: the evaluation's id."""

    service = "evaluator"

    async def create_evaluation(
        self,
        export: str,
        *,
        dataset_version: str = "",
        usages: Sequence[learning_pb2.Usage.ValueType | str] = (),
        slice_columns: Sequence[str] = (),
        instance_flavor: str = "",
        request_id: str = "",
    ) -> evaluator_pb2.Evaluation:
        """Starts scoring an export. dataset_version: empty is the one its model was trained on. usages: empty is all.

        slice_columns: columns of a table whose values cut the test usage into slices; at most 8.
        """
        evaluation = evaluator_pb2.Evaluation(
            export=self.names.export(export),
            dataset_version=self.names.dataset_version(dataset_version) if dataset_version else "",
            usages=[enum_number(learning_pb2.Usage, usage, "evaluation.usages") for usage in usages],
            slice_columns=slice_columns,
            instance_flavor=instance_flavor,
        )
        request = evaluator_service_pb2.CreateEvaluationRequest(
            parent=self.names.parent, evaluation=evaluation, request_id=request_id or new_request_id()
        )
        return await self._call("CreateEvaluation", request, evaluator_pb2.Evaluation)

    async def get_evaluation(self, evaluation: str) -> evaluator_pb2.Evaluation:
        request = evaluator_service_pb2.GetEvaluationRequest(name=self.names.evaluation(evaluation))
        return await self._call("GetEvaluation", request, evaluator_pb2.Evaluation)

    def list_evaluations(self, *, exports: Sequence[str] = (), page_size: int = 0) -> AsyncIterator[evaluator_pb2.Evaluation]:
        """The evaluations of the project, newest first; all of them, or those of some exports (at most 1000)."""
        request = evaluator_service_pb2.ListEvaluationsRequest(
            parent=self.names.parent, page_size=page_size, exports=[self.names.export(each) for each in exports]
        )
        return self._items("ListEvaluations", request, evaluator_service_pb2.ListEvaluationsResponse, "evaluations")

    async def list_predictions(
        self,
        evaluation: str,
        *,
        usage: learning_pb2.Usage.ValueType | str = "test",
        label: str = "",
        prediction: str = "",
        example_ids: Sequence[str] = (),
        page_size: int = 50,
        page_token: str = "",
    ) -> evaluator_service_pb2.ListPredictionsResponse:
        """A page of what the model says of single examples, the surest first; `total_size` counts all that are chosen.

        label, prediction: only those with this label, of which the model says this. example_ids: only these (at most 1000), with
        the boxes that a detector found in them.
        """
        request = evaluator_service_pb2.ListPredictionsRequest(
            parent=self.names.evaluation(evaluation),
            usage=enum_number(learning_pb2.Usage, usage, "usage"),
            label=label,
            prediction=prediction,
            example_ids=example_ids,
            page_size=page_size,
            page_token=page_token,
        )
        return await self._call("ListPredictions", request, evaluator_service_pb2.ListPredictionsResponse)

    async def get_curves(
        self, evaluation: str, *, usage: learning_pb2.Usage.ValueType | str = "test"
    ) -> evaluator_service_pb2.EvaluationCurves:
        """Precision over recall of each class, and calibration; residuals of a regression; empty for other tasks."""
        request = evaluator_service_pb2.GetEvaluationCurvesRequest(
            name=self.names.evaluation(evaluation), usage=enum_number(learning_pb2.Usage, usage, "usage")
        )
        return await self._call("GetEvaluationCurves", request, evaluator_service_pb2.EvaluationCurves)

    def watch_evaluation(
        self, evaluation: str, *, after_sequence: int = 0
    ) -> AsyncIterator[evaluator_service_pb2.WatchEvaluationResponse]:
        request = evaluator_service_pb2.WatchEvaluationRequest(
            name=self.names.evaluation(evaluation), after_sequence=after_sequence
        )
        return self._watch("WatchEvaluation", request, evaluator_service_pb2.WatchEvaluationResponse, "evaluation")

    async def wait_evaluation(
        self, evaluation: str, timeout_s: float | None = None, on_change: OnChange | None = None
    ) -> evaluator_pb2.Evaluation:
        """Waits for the end; `on_change` gets every WatchEvaluationResponse. JobFailed, WaitTimeout."""
        name = self.names.evaluation(evaluation)
        request = evaluator_service_pb2.WatchEvaluationRequest(name=name)
        answer = evaluator_service_pb2.WatchEvaluationResponse
        return await self._wait(
            "WatchEvaluation", request, answer, "evaluation", lambda: self.get_evaluation(name), timeout_s, on_change
        )

    async def cancel_evaluation(self, evaluation: str) -> evaluator_pb2.Evaluation:
        request = evaluator_service_pb2.CancelEvaluationRequest(name=self.names.evaluation(evaluation))
        return await self._call("CancelEvaluation", request, evaluator_pb2.Evaluation)


class AsyncGate(AsyncResource):
    """Decisions whether an evaluated artifact may be deployed."""

    service = "evaluator"

    async def create_gate_decision(
        self,
        evaluation: str,
        *,
        floors: Floors = (),
        latency: learning_pb2.Latency | None = None,
        max_latency_ms: float = 0.0,
        parent_evaluation: str = "",
        incumbent_evaluation: str = "",
        max_loss: float = 0.0,
        max_size_bytes: int = 0,
        model_size_bytes: int = 0,
        quantized: bool = False,
        quantization_aware: bool = False,
        class_floors: Sequence[evaluator_pb2.ClassFloor] = (),
        max_memory_bytes: int = 0,
        request_id: str = "",
    ) -> evaluator_pb2.GateDecision:
        """Decides. floors: metric to bound, `{"accuracy": 0.9}`. max_latency_ms: largest p95 of `latency`; 0 is no limit.

        parent_evaluation: of the float model the export comes from; incumbent_evaluation: of the version that serves now; both on
        the same dataset version. max_loss: most that the main metric may fall against them, 0 is 0.01. quantized and
        quantization_aware say how the artifact was made, which decides whether RETRY_WITH_QAT is a remedy.
        """
        decision = evaluator_pb2.GateDecision(
            evaluation=self.names.evaluation(evaluation),
            floors=floor_messages(floors),
            latency=latency,
            max_latency_ms=max_latency_ms,
            parent_evaluation=self.names.evaluation(parent_evaluation) if parent_evaluation else "",
            incumbent_evaluation=self.names.evaluation(incumbent_evaluation) if incumbent_evaluation else "",
            max_loss=max_loss,
            max_size_bytes=max_size_bytes,
            model_size_bytes=model_size_bytes,
            quantized=quantized,
            quantization_aware=quantization_aware,
            class_floors=class_floors,
            max_memory_bytes=max_memory_bytes,
        )
        request = evaluator_service_pb2.CreateGateDecisionRequest(
            parent=self.names.parent, gate_decision=decision, request_id=request_id or new_request_id()
        )
        return await self._call("CreateGateDecision", request, evaluator_pb2.GateDecision)

    async def get_gate_decision(self, gate_decision: str) -> evaluator_pb2.GateDecision:
        request = evaluator_service_pb2.GetGateDecisionRequest(name=self.names.gate_decision(gate_decision))
        return await self._call("GetGateDecision", request, evaluator_pb2.GateDecision)

    def list_gate_decisions(
        self, *, evaluations: Sequence[str] = (), page_size: int = 0
    ) -> AsyncIterator[evaluator_pb2.GateDecision]:
        """The decisions of the project, newest first; all of them, or those about some evaluations (at most 1000)."""
        request = evaluator_service_pb2.ListGateDecisionsRequest(
            parent=self.names.parent, page_size=page_size, evaluations=[self.names.evaluation(each) for each in evaluations]
        )
        return self._items("ListGateDecisions", request, evaluator_service_pb2.ListGateDecisionsResponse, "gate_decisions")
