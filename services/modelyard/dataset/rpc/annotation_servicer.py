"""modelyard.dataset.v1.AnnotationService: convert, call, convert."""

from __future__ import annotations

from typing import Any

from google.protobuf import empty_pb2

from modelyard.core.access.guard import CALLER
from modelyard.core.access.principal import Role
from modelyard.core.jobs.convert import blob_from, blob_message
from modelyard.core.requests import Request
from modelyard.core.rpc.requests import fingerprint, mask_paths
from modelyard.dataset.domain.records import SplitPolicy
from modelyard.dataset.handlers import (
    annotation_exchange,
    annotation_proposals,
    annotation_results,
    annotation_rounds,
    annotation_schemas,
    annotation_tasks,
)
from modelyard.dataset.handlers.annotation_results import Publication
from modelyard.dataset.handlers.annotation_rounds import Annotating
from modelyard.dataset.handlers.annotation_tasks import Caller
from modelyard.dataset.handlers.version_facts import facts_of
from modelyard.dataset.ports import Files
from modelyard.dataset.rpc import annotation_convert as convert
from modelyard.dataset.rpc.convert import split_policy, version_message
from modelyard.dataset.v1 import annotation_pb2 as pb
from modelyard.dataset.v1 import annotation_service_pb2 as messages
from modelyard.dataset.v1 import annotation_service_pb2_grpc as rpc
from modelyard.dataset.v1 import dataset_pb2


class AnnotationServicer(rpc.AnnotationServiceServicer):
    """The servicer over its handlers."""

    def __init__(self, at: Annotating, files: Files) -> None:
        self._at = at
        self._files = files

    def CreateLabelSchema(self, request: messages.CreateLabelSchemaRequest, context: Any) -> pb.LabelSchema:
        wanted = convert.schema_from(request.label_schema)
        made = annotation_schemas.create_schema(self._at.resources, request.parent, wanted, _caller_name(), _request(request))
        return convert.schema_message(made)

    def GetLabelSchema(self, request: messages.GetLabelSchemaRequest, context: Any) -> pb.LabelSchema:
        return convert.schema_message(annotation_schemas.get_schema(self._at.resources, request.name))

    def ListLabelSchemas(self, request: messages.ListLabelSchemasRequest, context: Any) -> messages.ListLabelSchemasResponse:
        page = annotation_schemas.list_schemas(self._at.resources, request.parent, request.page_size, request.page_token)
        found = [convert.schema_message(item) for item in page.items]
        return messages.ListLabelSchemasResponse(label_schemas=found, next_page_token=page.next_page_token)

    def CreateAnnotationRound(self, request: messages.CreateAnnotationRoundRequest, context: Any) -> pb.AnnotationRound:
        wanted = convert.round_from(request.annotation_round, _caller_name())
        made = annotation_rounds.create_round(self._at, request.parent, request.annotation_round_id, wanted, _request(request))
        return convert.round_message(made, annotation_rounds.progress_of(self._at, made))

    def GetAnnotationRound(self, request: messages.GetAnnotationRoundRequest, context: Any) -> pb.AnnotationRound:
        found = annotation_rounds.get_round(self._at.resources, request.name)
        return convert.round_message(found, annotation_rounds.progress_of(self._at, found))

    def ListAnnotationRounds(
        self, request: messages.ListAnnotationRoundsRequest, context: Any
    ) -> messages.ListAnnotationRoundsResponse:
        page = annotation_rounds.list_rounds(self._at.resources, request.parent, request.page_size, request.page_token)
        found = [convert.round_message(item) for item in page.items]
        return messages.ListAnnotationRoundsResponse(annotation_rounds=found, next_page_token=page.next_page_token)

    def UpdateAnnotationRound(self, request: messages.UpdateAnnotationRoundRequest, context: Any) -> pb.AnnotationRound:
        wanted = request.annotation_round
        paths = mask_paths(request.update_mask, convert.ROUND_FIELDS)
        values = convert.round_changes(wanted, paths, named=bool(request.update_mask.paths))
        made = annotation_rounds.update_round(self._at.resources, wanted.name, values, wanted.etag)
        return convert.round_message(made, annotation_rounds.progress_of(self._at, made))

    def DeleteAnnotationRound(self, request: messages.DeleteAnnotationRoundRequest, context: Any) -> empty_pb2.Empty:
        annotation_rounds.delete_round(self._at, request.name, request.etag)
        return empty_pb2.Empty()

    def ClaimAnnotationTasks(
        self, request: messages.ClaimAnnotationTasksRequest, context: Any
    ) -> messages.ClaimAnnotationTasksResponse:
        tasks, nothing_left = annotation_tasks.claim(
            self._at, request.parent, request.count, request.annotator, _caller(request.parent)
        )
        found = [convert.task_message(request.parent, task) for task in tasks]
        return messages.ClaimAnnotationTasksResponse(tasks=found, nothing_left=nothing_left)

    def SubmitAnnotation(self, request: messages.SubmitAnnotationRequest, context: Any) -> pb.AnnotationEntry:
        answer = convert.answer_from(request.answer)
        made = annotation_tasks.submit(
            self._at, request.name, answer, request.seconds, request.annotator, _caller(request.name), _request(request)
        )
        return convert.entry_message(_round_of(request.name), made)

    def SkipAnnotationTask(self, request: messages.SkipAnnotationTaskRequest, context: Any) -> pb.AnnotationEntry:
        made = annotation_tasks.skip(
            self._at, request.name, request.reason, request.annotator, _caller(request.name), _request(request)
        )
        return convert.entry_message(_round_of(request.name), made)

    def ReleaseAnnotationTask(self, request: messages.ReleaseAnnotationTaskRequest, context: Any) -> empty_pb2.Empty:
        annotation_tasks.release(self._at, request.name, request.annotator, _caller(request.name))
        return empty_pb2.Empty()

    def WithdrawAnnotation(self, request: messages.WithdrawAnnotationRequest, context: Any) -> pb.AnnotationEntry:
        made = annotation_tasks.withdraw(self._at, request.name, request.annotator, _caller(request.name), _request(request))
        return convert.entry_message(_round_of(request.name), made)

    def ReviewAnnotationTask(self, request: messages.ReviewAnnotationTaskRequest, context: Any) -> pb.AnnotationTask:
        said = convert.review_from(request.review)
        made = annotation_tasks.review(self._at, request.name, said, _caller(request.name), _request(request))
        return convert.task_message(_round_of(request.name), made)

    def GetAnnotationTask(self, request: messages.GetAnnotationTaskRequest, context: Any) -> pb.AnnotationTask:
        return convert.task_message(*annotation_tasks.get_task(self._at, request.name))

    def ListAnnotationTasks(
        self, request: messages.ListAnnotationTasksRequest, context: Any
    ) -> messages.ListAnnotationTasksResponse:
        state = convert.task_state(request.state)
        tasks, token = annotation_tasks.list_tasks(self._at, request.parent, state, request.page_size, request.page_token)
        found = [convert.task_message(request.parent, task) for task in tasks]
        return messages.ListAnnotationTasksResponse(tasks=found, next_page_token=token)

    def GetTaskContent(self, request: messages.GetTaskContentRequest, context: Any) -> pb.TaskContent:
        data, media_type = annotation_tasks.content_of(self._at, request.name)
        return pb.TaskContent(data=data, media_type=media_type)

    def ListAnnotationEntries(
        self, request: messages.ListAnnotationEntriesRequest, context: Any
    ) -> messages.ListAnnotationEntriesResponse:
        name, entries, token = annotation_tasks.list_entries(self._at, request.parent, request.page_size, request.page_token)
        found = [convert.entry_message(name, entry) for entry in entries]
        return messages.ListAnnotationEntriesResponse(entries=found, next_page_token=token)

    def GetAnnotationStatistics(
        self, request: messages.GetAnnotationStatisticsRequest, context: Any
    ) -> messages.GetAnnotationStatisticsResponse:
        people = annotation_results.people_of(self._at, request.name)
        progress = annotation_rounds.progress_of(self._at, annotation_rounds.get_round(self._at.resources, request.name))
        return messages.GetAnnotationStatisticsResponse(
            progress=convert.progress_message(progress), annotators=[convert.person_message(person) for person in people]
        )

    def GetAnnotationAgreement(self, request: messages.GetAnnotationAgreementRequest, context: Any) -> pb.AnnotationAgreement:
        found = annotation_results.agreement_of(self._at, request.name, convert.method_from(request.method))
        return convert.agreement_message(request.name, found, annotation_results.people_of(self._at, request.name))

    def ImportPreLabels(self, request: messages.ImportPreLabelsRequest, context: Any) -> messages.ImportPreLabelsResponse:
        given = [convert.pre_label_from(each) for each in request.pre_labels]
        taken, ignored = annotation_tasks.import_pre_labels(self._at, request.parent, given)
        return messages.ImportPreLabelsResponse(pre_label_count=taken, ignored_count=ignored)

    def ListUnlabelledExamples(
        self, request: messages.ListUnlabelledExamplesRequest, context: Any
    ) -> messages.ListUnlabelledExamplesResponse:
        found, token, total = annotation_proposals.list_unlabelled(
            self._at, request.parent, request.page_size, request.page_token
        )
        examples = [dataset_pb2.Example(example_id=each.example_id, path=each.path, sha256=each.sha256) for each in found]
        return messages.ListUnlabelledExamplesResponse(examples=examples, next_page_token=token, total_count=total)

    def GetExampleContent(self, request: messages.GetExampleContentRequest, context: Any) -> pb.TaskContent:
        data, media_type = annotation_proposals.example_content(self._at, request.parent, request.example_id)
        return pb.TaskContent(data=data, media_type=media_type)

    def ProposeExamples(self, request: messages.ProposeExamplesRequest, context: Any) -> messages.ProposeExamplesResponse:
        found = annotation_proposals.propose_examples(
            self._at,
            request.parent,
            request.count,
            convert.strategy_from(request.strategy),
            {each.example_id: list(each.probabilities) for each in request.predictions},
            request.seed,
            include_open_rounds=request.include_open_rounds,
        )
        return convert.proposed_message(found)

    def PublishAnnotationRound(self, request: messages.PublishAnnotationRoundRequest, context: Any) -> dataset_pb2.DatasetVersion:
        wanted = Publication(
            name=request.name,
            method=convert.method_from(request.method),
            least=request.min_confidence,
            reviewed_only=request.reviewed_only,
            include_incomplete=request.include_incomplete,
            base=request.base_version,
            split=split_policy(request.split, "split") if request.HasField("split") else SplitPolicy(),
            version_id=request.dataset_version_id,
        )
        job = annotation_results.publish_round(self._at, self._files, wanted, _caller_name(), _request(request))
        return version_message(job, facts_of(self._at.resources, job))

    def ImportAnnotations(self, request: messages.ImportAnnotationsRequest, context: Any) -> pb.AnnotationImport:
        found = annotation_exchange.import_annotations(self._at, self._files, request.parent, blob_from(request.source))
        return pb.AnnotationImport(
            task_count=found.tasks,
            answer_count=found.answers,
            pre_label_count=found.pre_labels,
            rejected=[
                dataset_pb2.RejectedInput(path=each.path, reason=each.reason, message=each.message) for each in found.rejected
            ],
            rejected_count=found.rejected_count,
        )

    def ExportAnnotations(self, request: messages.ExportAnnotationsRequest, context: Any) -> pb.AnnotationExport:
        found = annotation_exchange.export_annotations(self._at, self._files, request.name)
        return pb.AnnotationExport(file=blob_message(found.file), task_count=found.tasks, answer_count=found.answers)


def _caller_name() -> str:
    return CALLER.get().name


def _caller(name: str) -> Caller:
    """Who calls, and whether they have the role editor in the project that a name is of."""
    principal = CALLER.get()
    parts = name.split("/")
    project = parts[1] if len(parts) > 1 else ""
    return Caller(principal.name, principal.role_in(project) >= Role.EDITOR)


def _round_of(task_name: str) -> str:
    return task_name.rsplit("/", 2)[0]


def _request(request: Any) -> Request:
    method = type(request).__name__.removesuffix("Request")
    return Request(request.request_id, method, fingerprint(request))
