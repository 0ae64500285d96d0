"""Annotation: label schemas, rounds, tasks, answers, reviews, pre-labels, what to label next, publication."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from modelyard.client._async.resource import AsyncResource
from modelyard.client._messages import EMPTY
from modelyard.client.enums import enum_number
from modelyard.client.names import new_request_id
from modelyard.dataset.v1 import annotation_pb2, annotation_record_pb2, annotation_service_pb2, dataset_pb2
from modelyard.type.v1 import blob_pb2

M = TypeVar("M", bound=Message)
API: Final = "modelyard.dataset.v1.AnnotationService"
LONG_S: Final = 600.0
"""Deadline of calls that look at a whole round."""
AT_ONCE: Final = 2000
"""Pre-labels in one call."""


class AsyncAnnotations(AsyncResource):
    """Calls of modelyard.dataset.v1.AnnotationService. Names may be short: `flowers/first` is a round, `flowers/first/e3f9c2a`
    a task."""

    service = "dataset"

    async def _call(self, method: str, request: Message, answer: type[M], timeout_s: float | None = None) -> M:
        return await self._call_api(API, method, request, answer, timeout_s)

    async def create_label_schema(
        self, dataset: str, label_schema: annotation_pb2.LabelSchema, *, request_id: str = ""
    ) -> annotation_pb2.LabelSchema:
        """Makes the next label schema of a dataset; those before it stay."""
        request = annotation_service_pb2.CreateLabelSchemaRequest(
            parent=self.names.dataset(dataset), label_schema=label_schema, request_id=request_id or new_request_id()
        )
        return await self._call("CreateLabelSchema", request, annotation_pb2.LabelSchema)

    async def get_label_schema(self, label_schema: str) -> annotation_pb2.LabelSchema:
        """`flowers/V002`; `flowers` is the newest of the dataset."""
        request = annotation_service_pb2.GetLabelSchemaRequest(name=self.names.label_schema(label_schema))
        return await self._call("GetLabelSchema", request, annotation_pb2.LabelSchema)

    def list_label_schemas(self, dataset: str, *, page_size: int = 0) -> AsyncIterator[annotation_pb2.LabelSchema]:
        request = annotation_service_pb2.ListLabelSchemasRequest(parent=self.names.dataset(dataset), page_size=page_size)
        return self._items("ListLabelSchemas", request, annotation_service_pb2.ListLabelSchemasResponse, "label_schemas")

    async def create_round(
        self, dataset: str, round_id: str, annotation_round: annotation_pb2.AnnotationRound, *, request_id: str = ""
    ) -> annotation_pb2.AnnotationRound:
        """Opens a round. Names inside the message are full names (`client.names`)."""
        request = annotation_service_pb2.CreateAnnotationRoundRequest(
            parent=self.names.dataset(dataset),
            annotation_round_id=round_id,
            annotation_round=annotation_round,
            request_id=request_id or new_request_id(),
        )
        return await self._call("CreateAnnotationRound", request, annotation_pb2.AnnotationRound, LONG_S)

    async def get_round(self, annotation_round: str) -> annotation_pb2.AnnotationRound:
        """With its progress."""
        request = annotation_service_pb2.GetAnnotationRoundRequest(name=self.names.annotation_round(annotation_round))
        return await self._call("GetAnnotationRound", request, annotation_pb2.AnnotationRound)

    def list_rounds(self, dataset: str, *, page_size: int = 0) -> AsyncIterator[annotation_pb2.AnnotationRound]:
        request = annotation_service_pb2.ListAnnotationRoundsRequest(parent=self.names.dataset(dataset), page_size=page_size)
        answer = annotation_service_pb2.ListAnnotationRoundsResponse
        return self._items("ListAnnotationRounds", request, answer, "annotation_rounds")

    async def update_round(
        self, annotation_round: annotation_pb2.AnnotationRound, update_mask: Sequence[str] = ()
    ) -> annotation_pb2.AnnotationRound:
        """Changes display_name, annotators, reviewers, lease or state. Aborted when a set etag does not match."""
        request = annotation_service_pb2.UpdateAnnotationRoundRequest(
            annotation_round=annotation_round, update_mask=FieldMask(paths=update_mask)
        )
        return await self._call("UpdateAnnotationRound", request, annotation_pb2.AnnotationRound)

    async def delete_round(self, annotation_round: str, *, etag: str = "") -> None:
        """Deletes a round with all that was said in it; what was published stays."""
        request = annotation_service_pb2.DeleteAnnotationRoundRequest(
            name=self.names.annotation_round(annotation_round), etag=etag
        )
        await self._call("DeleteAnnotationRound", request, EMPTY, LONG_S)

    async def claim(
        self, annotation_round: str, *, count: int = 0, annotator: str = ""
    ) -> annotation_service_pb2.ClaimAnnotationTasksResponse:
        """Tasks to answer: those held already first. `annotator`: for somebody else (needs the role editor)."""
        request = annotation_service_pb2.ClaimAnnotationTasksRequest(
            parent=self.names.annotation_round(annotation_round), count=count, annotator=annotator
        )
        return await self._call("ClaimAnnotationTasks", request, annotation_service_pb2.ClaimAnnotationTasksResponse)

    async def submit(
        self, task: str, answer: annotation_pb2.Answer, *, seconds: float = 0.0, annotator: str = "", request_id: str = ""
    ) -> annotation_pb2.AnnotationEntry:
        """Answers a task; given again, it replaces the answer before. FailedPrecondition when it was not claimed."""
        request = annotation_service_pb2.SubmitAnnotationRequest(
            name=self.names.annotation_task(task),
            answer=answer,
            seconds=seconds,
            annotator=annotator,
            request_id=request_id or new_request_id(),
        )
        return await self._call("SubmitAnnotation", request, annotation_pb2.AnnotationEntry)

    async def skip(
        self, task: str, *, reason: str = "", annotator: str = "", request_id: str = ""
    ) -> annotation_pb2.AnnotationEntry:
        """Leaves a task to others."""
        request = annotation_service_pb2.SkipAnnotationTaskRequest(
            name=self.names.annotation_task(task),
            reason=reason,
            annotator=annotator,
            request_id=request_id or new_request_id(),
        )
        return await self._call("SkipAnnotationTask", request, annotation_pb2.AnnotationEntry)

    async def release(self, task: str, *, annotator: str = "") -> None:
        """Gives a task back unanswered."""
        request = annotation_service_pb2.ReleaseAnnotationTaskRequest(name=self.names.annotation_task(task), annotator=annotator)
        await self._call("ReleaseAnnotationTask", request, EMPTY)

    async def withdraw(self, task: str, *, annotator: str = "", request_id: str = "") -> annotation_pb2.AnnotationEntry:
        """Takes an answer back; the task is held again."""
        request = annotation_service_pb2.WithdrawAnnotationRequest(
            name=self.names.annotation_task(task), annotator=annotator, request_id=request_id or new_request_id()
        )
        return await self._call("WithdrawAnnotation", request, annotation_pb2.AnnotationEntry)

    async def review(
        self,
        task: str,
        verdict: annotation_pb2.AnnotationReview.Verdict.ValueType | str,
        *,
        answer: annotation_pb2.Answer | None = None,
        annotator: str = "",
        reason: str = "",
        request_id: str = "",
    ) -> annotation_pb2.AnnotationTask:
        """ "accept" (the consensus, or `annotator`'s answer), "correct" (`answer` is right) or "reject" (with a reason)."""
        number = enum_number(annotation_pb2.AnnotationReview.Verdict, verdict, "review.verdict")
        said = annotation_pb2.AnnotationReview(verdict=number, answer=answer, annotator=annotator, reason=reason)
        request = annotation_service_pb2.ReviewAnnotationTaskRequest(
            name=self.names.annotation_task(task), review=said, request_id=request_id or new_request_id()
        )
        return await self._call("ReviewAnnotationTask", request, annotation_pb2.AnnotationTask)

    async def get_task(self, task: str) -> annotation_pb2.AnnotationTask:
        request = annotation_service_pb2.GetAnnotationTaskRequest(name=self.names.annotation_task(task))
        return await self._call("GetAnnotationTask", request, annotation_pb2.AnnotationTask)

    def list_tasks(
        self, annotation_round: str, *, state: annotation_pb2.AnnotationTask.State.ValueType | str = "", page_size: int = 0
    ) -> AsyncIterator[annotation_pb2.AnnotationTask]:
        """The tasks in their order; of one state ("open", "labelled", "accepted", "corrected") or all."""
        request = annotation_service_pb2.ListAnnotationTasksRequest(
            parent=self.names.annotation_round(annotation_round),
            state=enum_number(annotation_pb2.AnnotationTask.State, state, "state"),
            page_size=page_size,
        )
        return self._items("ListAnnotationTasks", request, annotation_service_pb2.ListAnnotationTasksResponse, "tasks")

    async def task_content(self, task: str) -> annotation_pb2.TaskContent:
        """The example of a task: a picture or sound as it came, a row or a series as JSON."""
        request = annotation_service_pb2.GetTaskContentRequest(name=self.names.annotation_task(task))
        return await self._call("GetTaskContent", request, annotation_pb2.TaskContent)

    def list_entries(self, round_or_task: str, *, page_size: int = 0) -> AsyncIterator[annotation_pb2.AnnotationEntry]:
        """All that was done in a round (`flowers/first`), or about a task of it, in order."""
        request = annotation_service_pb2.ListAnnotationEntriesRequest(
            parent=self.names.annotation_round_or_task(round_or_task), page_size=page_size
        )
        return self._items("ListAnnotationEntries", request, annotation_service_pb2.ListAnnotationEntriesResponse, "entries")

    async def statistics(self, annotation_round: str) -> annotation_service_pb2.GetAnnotationStatisticsResponse:
        """Progress, and what each person did."""
        request = annotation_service_pb2.GetAnnotationStatisticsRequest(name=self.names.annotation_round(annotation_round))
        answer = annotation_service_pb2.GetAnnotationStatisticsResponse
        return await self._call("GetAnnotationStatistics", request, answer, LONG_S)

    async def agreement(
        self, annotation_round: str, *, method: annotation_record_pb2.ConsensusMethod.ValueType | str = ""
    ) -> annotation_pb2.AnnotationAgreement:
        """How far people agree."""
        request = annotation_service_pb2.GetAnnotationAgreementRequest(
            name=self.names.annotation_round(annotation_round),
            method=enum_number(annotation_record_pb2.ConsensusMethod, method, "method"),
        )
        return await self._call("GetAnnotationAgreement", request, annotation_pb2.AnnotationAgreement, LONG_S)

    async def import_pre_labels(self, annotation_round: str, pre_labels: Sequence[annotation_pb2.PreLabel]) -> int:
        """Takes what a model says of a round's examples; how many tasks have it now."""
        taken = 0
        for start in range(0, len(pre_labels), AT_ONCE):
            request = annotation_service_pb2.ImportPreLabelsRequest(
                parent=self.names.annotation_round(annotation_round), pre_labels=pre_labels[start : start + AT_ONCE]
            )
            answer = annotation_service_pb2.ImportPreLabelsResponse
            taken += (await self._call("ImportPreLabels", request, answer, LONG_S)).pre_label_count
        return taken

    def list_unlabelled_examples(self, dataset: str, *, page_size: int = 0) -> AsyncIterator[dataset_pb2.Example]:
        """The examples of a dataset's present content that have no label yet."""
        request = annotation_service_pb2.ListUnlabelledExamplesRequest(parent=self.names.dataset(dataset), page_size=page_size)
        answer = annotation_service_pb2.ListUnlabelledExamplesResponse
        return self._items("ListUnlabelledExamples", request, answer, "examples")

    async def example_content(self, dataset: str, example_id: str) -> annotation_pb2.TaskContent:
        """An example of a dataset's present content, as bytes."""
        request = annotation_service_pb2.GetExampleContentRequest(parent=self.names.dataset(dataset), example_id=example_id)
        return await self._call("GetExampleContent", request, annotation_pb2.TaskContent)

    async def propose_examples(
        self,
        dataset: str,
        count: int,
        *,
        strategy: annotation_service_pb2.ProposeExamplesRequest.Strategy.ValueType | str = "",
        predictions: Mapping[str, Sequence[float]] | None = None,
        seed: int = 0,
        include_open_rounds: bool = False,
    ) -> annotation_service_pb2.ProposeExamplesResponse:
        """What to label next. `predictions`: by example id, the probability of each class."""
        request = annotation_service_pb2.ProposeExamplesRequest(
            parent=self.names.dataset(dataset),
            count=count,
            strategy=enum_number(annotation_service_pb2.ProposeExamplesRequest.Strategy, strategy, "strategy"),
            predictions=[
                annotation_pb2.ExamplePrediction(example_id=example_id, probabilities=probabilities)
                for example_id, probabilities in (predictions or {}).items()
            ],
            seed=seed,
            include_open_rounds=include_open_rounds,
        )
        return await self._call("ProposeExamples", request, annotation_service_pb2.ProposeExamplesResponse, LONG_S)

    async def publish_round(
        self,
        annotation_round: str,
        *,
        method: annotation_record_pb2.ConsensusMethod.ValueType | str = "",
        min_confidence: float = 0.0,
        reviewed_only: bool = False,
        include_incomplete: bool = False,
        base_version: str = "",
        split: dataset_pb2.SplitPolicy | None = None,
        dataset_version_id: str = "",
        request_id: str = "",
    ) -> dataset_pb2.DatasetVersion:
        """Starts the publication of the next version; wait for it with `client.datasets.wait_dataset_version`."""
        name = self.names.annotation_round(annotation_round)
        base = ""
        if base_version:
            dataset = name.rpartition("/annotationRounds/")[0]
            base = self.names.dataset_version(base_version) if "/" in base_version else f"{dataset}/versions/{base_version}"
        request = annotation_service_pb2.PublishAnnotationRoundRequest(
            name=name,
            method=enum_number(annotation_record_pb2.ConsensusMethod, method, "method"),
            min_confidence=min_confidence,
            reviewed_only=reviewed_only,
            include_incomplete=include_incomplete,
            base_version=base,
            split=split,
            dataset_version_id=dataset_version_id,
            request_id=request_id or new_request_id(),
        )
        return await self._call("PublishAnnotationRound", request, dataset_pb2.DatasetVersion, LONG_S)

    async def import_annotations(
        self, annotation_round: str, source: blob_pb2.Blob, *, request_id: str = ""
    ) -> annotation_pb2.AnnotationImport:
        """Takes annotations and predictions from a Label Studio file (see `client.artifacts.upload`)."""
        request = annotation_service_pb2.ImportAnnotationsRequest(
            parent=self.names.annotation_round(annotation_round), source=source, request_id=request_id or new_request_id()
        )
        return await self._call("ImportAnnotations", request, annotation_pb2.AnnotationImport, LONG_S)

    async def export_annotations(self, annotation_round: str) -> annotation_pb2.AnnotationExport:
        """Writes a round as a Label Studio file; fetch it with `client.artifacts.download`."""
        request = annotation_service_pb2.ExportAnnotationsRequest(name=self.names.annotation_round(annotation_round))
        return await self._call("ExportAnnotations", request, annotation_pb2.AnnotationExport, LONG_S)
