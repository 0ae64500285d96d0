"""Messages of annotation to the service's values and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from modelyard.core.documents import from_document
from modelyard.core.jobs.convert import duration, timestamp
from modelyard.core.resources import Resource
from modelyard.dataset.domain import consensus, label_schema, proposals, rounds
from modelyard.dataset.domain.agreement import Figure
from modelyard.dataset.domain.answers import Answer
from modelyard.dataset.domain.label_schema import LabelSchema
from modelyard.dataset.domain.records import AnnotationRecord
from modelyard.dataset.domain.round_result import RoundResult
from modelyard.dataset.domain.rounds import Entry, PreLabel, Progress, Review, Round, Selection, Task
from modelyard.dataset.handlers.annotation_proposals import Proposed
from modelyard.dataset.handlers.annotation_results import Person
from modelyard.dataset.rpc.enums import name_of, usages
from modelyard.dataset.v1 import annotation_pb2 as pb
from modelyard.dataset.v1 import annotation_record_pb2 as record_pb
from modelyard.dataset.v1 import annotation_service_pb2 as service_pb
from modelyard.dataset.v1 import dataset_pb2
from modelyard.formats.annotations import Interval, Mark
from modelyard.type.v1 import learning_pb2

_SHAPES: Final = {name: getattr(pb, f"SHAPE_{name.upper()}") for name in label_schema.SHAPES}
_KINDS: Final = {name: getattr(pb.LabelAttribute, f"KIND_{name.upper()}") for name in label_schema.KINDS}
_STATES: Final = {name: getattr(pb.AnnotationRound, f"STATE_{name.upper()}") for name in rounds.STATES}
_TASK_STATES: Final = {name: getattr(pb.AnnotationTask, f"STATE_{name.upper()}") for name in rounds.TASK_STATES}
_VERDICTS: Final = {name: getattr(pb.AnnotationReview, f"VERDICT_{name.upper()}") for name in rounds.VERDICTS}
_ENTRIES: Final = {
    name: getattr(pb.AnnotationEntry, f"KIND_{name.upper()}")
    for name in (rounds.ANSWER, rounds.SKIP, rounds.WITHDRAWAL, rounds.REVIEW)
}
_METHODS: Final = {name: getattr(record_pb, f"CONSENSUS_METHOD_{name.upper()}") for name in consensus.METHODS}
_STRATEGIES: Final = {
    name: getattr(service_pb.ProposeExamplesRequest, f"STRATEGY_{name.upper()}") for name in proposals.STRATEGIES
}
_USES: Final = {
    None: pb.AnnotationEntry.PRE_LABEL_USE_UNSPECIFIED,
    True: pb.AnnotationEntry.PRE_LABEL_USE_UNCHANGED,
    False: pb.AnnotationEntry.PRE_LABEL_USE_CHANGED,
}


# Requests


def schema_from(message: pb.LabelSchema) -> LabelSchema:
    """What a request asks for."""
    return LabelSchema(
        shapes=tuple(name_of(_SHAPES, shape, f"label_schema.shapes[{n}]") for n, shape in enumerate(message.shapes)),
        classes=tuple(
            label_schema.LabelClass(
                each.name, each.colour, each.key, each.description, _attributes(each.attributes, f"label_schema.classes[{n}]")
            )
            for n, each in enumerate(message.classes)
        ),
        attributes=_attributes(message.attributes, "label_schema"),
        keypoints=tuple(message.keypoints),
        guidelines=message.guidelines,
        guideline_examples=tuple(
            label_schema.GuidelineExample(each.example_id, each.caption, each.counterexample)
            for each in message.guideline_examples
        ),
    )


def _attributes(messages: Any, path: str) -> tuple[label_schema.Attribute, ...]:
    return tuple(
        label_schema.Attribute(
            each.name,
            name_of(_KINDS, each.kind, f"{path}.attributes[{number}].kind") or label_schema.ANY_TEXT,
            tuple(each.values),
            each.required,
        )
        for number, each in enumerate(messages)
    )


def round_from(message: pb.AnnotationRound, creator: str) -> Round:
    """What a request asks for; without key and content."""
    from modelyard.formats.dataset import IMAGE, IMAGE_CLASSIFICATION, NO_BLOB, DatasetDescriptor

    wanted = message.selection
    return Round(
        key="",
        label_schema=message.label_schema,
        content=DatasetDescriptor(IMAGE_CLASSIFICATION, IMAGE, NO_BLOB, ""),
        display_name=message.display_name,
        dataset_version=message.dataset_version,
        selection=Selection(
            tuple(wanted.example_ids),
            wanted.unlabelled,
            wanted.usage,
            wanted.of_class,
            wanted.finding_source,
            wanted.finding_kind,
            wanted.limit,
            wanted.seed,
        ),
        overlap=message.overlap or 1,
        overlap_share=message.overlap_share or 1.0,
        annotators=tuple(message.annotators),
        reviewers=tuple(message.reviewers),
        lease_s=_seconds(message.lease) or rounds.LEASE_S,
        state=name_of(_STATES, message.state, "annotation_round.state") or rounds.OPEN,
        creator=creator,
    )


ROUND_FIELDS: Final = {"display_name", "annotators", "reviewers", "lease", "state"}


def round_changes(message: pb.AnnotationRound, paths: set[str], *, named: bool) -> dict[str, Any]:
    """New values of a round by field of the domain; `named`: the mask named the fields, so that empty ones empty them."""
    said = {
        "display_name": message.display_name,
        "annotators": tuple(message.annotators),
        "reviewers": tuple(message.reviewers),
        "lease": _seconds(message.lease) or (rounds.LEASE_S if named else 0.0),
        "state": name_of(_STATES, message.state, "annotation_round.state"),
    }
    names = {"lease": "lease_s"}
    changes = {names.get(path, path): said[path] for path in paths if named or said[path]}
    if changes.get("state") == "":
        del changes["state"]
    return changes


def answer_from(message: pb.Answer) -> Answer:
    """What somebody says."""
    return Answer(
        classes=tuple(message.classes),
        marks=tuple(
            Mark(
                each.label,
                tuple(each.box),  # type: ignore[arg-type]  # checked_answer says whether it has four
                tuple(tuple(ring.points) for ring in each.polygons),
                bytes(each.mask),
                tuple(each.keypoints),
                dict(each.attributes),
            )
            for each in message.objects
        ),
        intervals=tuple(Interval(each.start, each.end, each.label) for each in message.ranges),
        text=message.text,
        attributes=dict(message.attributes),
    )


def review_from(message: pb.AnnotationReview) -> Review:
    """A reviewer's word."""
    verdict = name_of(_VERDICTS, message.verdict, "review.verdict")
    answer = answer_from(message.answer) if message.HasField("answer") else None
    return Review(verdict, answer=answer, annotator=message.annotator, reason=message.reason)


def pre_label_from(message: pb.PreLabel) -> tuple[str, PreLabel]:
    """An example's id, and what a model says of it."""
    return message.example_id, PreLabel(answer_from(message.answer), message.confidence, message.model)


def task_state(value: int) -> str:
    """The domain's word; "" when unset."""
    return name_of(_TASK_STATES, value, "state")


def method_from(value: int) -> str:
    """The domain's word; "" when unset."""
    return name_of(_METHODS, value, "method")


def strategy_from(value: int) -> str:
    """The domain's word; "" when unset."""
    return name_of(_STRATEGIES, value, "strategy")


def _seconds(message: Any) -> float:
    return float(message.seconds + message.nanos / 1e9)


# Answers


def schema_message(resource: Resource) -> pb.LabelSchema:
    """A label schema."""
    kept = from_document(resource.document, LabelSchema)
    return pb.LabelSchema(
        name=resource.name,
        shapes=[_SHAPES[shape] for shape in kept.shapes],
        classes=[
            pb.LabelClass(
                name=each.name,
                colour=each.colour,
                key=each.key,
                description=each.description,
                attributes=_attribute_messages(each.attributes),
            )
            for each in kept.classes
        ],
        attributes=_attribute_messages(kept.attributes),
        keypoints=kept.keypoints,
        guidelines=kept.guidelines,
        guideline_examples=[
            pb.GuidelineExample(example_id=each.example_id, caption=each.caption, counterexample=each.counterexample)
            for each in kept.guideline_examples
        ],
        creator=kept.creator,
        create_time=timestamp(resource.create_time),
    )


def _attribute_messages(attributes: tuple[label_schema.Attribute, ...]) -> list[pb.LabelAttribute]:
    return [
        pb.LabelAttribute(name=each.name, kind=_KINDS[each.kind], values=each.values, required=each.required)
        for each in attributes
    ]


def round_message(resource: Resource, progress: Progress | None = None) -> pb.AnnotationRound:
    """A round."""
    kept = from_document(resource.document, Round)
    wanted = kept.selection
    return pb.AnnotationRound(
        name=resource.name,
        display_name=kept.display_name,
        label_schema=kept.label_schema,
        dataset_version=kept.dataset_version,
        selection=pb.ExampleSelection(
            unlabelled=wanted.unlabelled,
            usage=wanted.usage,
            of_class=wanted.of_class,
            finding_source=wanted.finding_source,
            finding_kind=wanted.finding_kind,
            limit=wanted.limit,
            seed=wanted.seed,
        ),
        overlap=kept.overlap,
        overlap_share=kept.overlap_share,
        annotators=kept.annotators,
        reviewers=kept.reviewers,
        lease=duration(kept.lease_s),
        state=_STATES[kept.state],
        task_count=kept.task_count,
        progress=progress_message(progress) if progress is not None else None,
        published_version=kept.published_version,
        creator=kept.creator,
        create_time=timestamp(resource.create_time),
        update_time=timestamp(resource.update_time),
        etag=resource.etag,
    )


def progress_message(progress: Progress) -> pb.AnnotationProgress:
    """How far a round is."""
    return pb.AnnotationProgress(
        open=progress.open,
        labelled=progress.labelled,
        accepted=progress.accepted,
        corrected=progress.corrected,
        leased=progress.leased,
        answers=progress.answers,
        answers_wanted=progress.answers_wanted,
        skipped=progress.skipped,
        prelabelled=progress.prelabelled,
    )


def task_message(round_name: str, task: Task) -> pb.AnnotationTask:
    """A task."""
    example, facts = task.example, task.example.facts
    message = pb.AnnotationTask(
        name=f"{round_name}/tasks/{task.task}",
        example=dataset_pb2.Example(
            example_id=example.example_id,
            usage=usages().get(example.usage, learning_pb2.USAGE_UNSPECIFIED),
            label=example.label,
            path=example.path,
            sha256=example.sha256,
        ),
        state=_TASK_STATES[task.state],
        position=task.position,
        answers_wanted=task.wanted,
        answer_count=task.done,
        skip_count=task.skips,
        width=facts.width,
        height=facts.height,
        steps=facts.steps,
        lease_until=timestamp(task.lease_until),
        reject_reason=task.reject_reason,
    )
    if task.pre_label is not None:
        said = task.pre_label
        message.pre_label.CopyFrom(
            pb.PreLabel(
                example_id=example.example_id, answer=answer_message(said.answer), confidence=said.confidence, model=said.model
            )
        )
    if task.earlier is not None:
        message.earlier_answer.CopyFrom(answer_message(task.earlier))
    if task.review is not None:
        message.review.CopyFrom(_review_message(task.review))
    return message


def _review_message(review: Review) -> pb.AnnotationReview:
    return pb.AnnotationReview(
        verdict=_VERDICTS[review.verdict],
        answer=answer_message(review.answer) if review.answer is not None else None,
        annotator=review.annotator,
        reason=review.reason,
        reviewer=review.reviewer,
        time=timestamp(review.time),
    )


def answer_message(answer: Answer) -> pb.Answer:
    """An answer."""
    return pb.Answer(
        classes=answer.classes,
        objects=[
            pb.MarkedObject(
                label=mark.label,
                box=mark.box,
                polygons=[pb.Ring(points=ring) for ring in mark.polygons],
                mask=mark.mask,
                keypoints=mark.keypoints,
                attributes=dict(mark.attributes),
            )
            for mark in answer.marks
        ],
        ranges=[pb.SeriesRange(start=each.start, end=each.end, label=each.label) for each in answer.intervals],
        text=answer.text,
        attributes=dict(answer.attributes),
    )


def entry_message(round_name: str, entry: Entry) -> pb.AnnotationEntry:
    """Something that was done."""
    return pb.AnnotationEntry(
        task=f"{round_name}/tasks/{entry.task}",
        number=entry.number,
        kind=_ENTRIES[entry.kind],
        annotator=entry.annotator,
        time=timestamp(entry.time),
        answer=answer_message(entry.answer) if entry.answer is not None else None,
        seconds=entry.seconds,
        reason=entry.reason,
        verdict=_VERDICTS.get(entry.verdict, pb.AnnotationReview.VERDICT_UNSPECIFIED),
        pre_label_use=_USES[entry.unchanged],
        counts=entry.counts,
    )


def person_message(person: Person) -> pb.AnnotatorStatistics:
    """What one person did."""
    return pb.AnnotatorStatistics(
        annotator=person.annotator,
        answers=person.answers,
        revisions=person.revisions,
        skips=person.skips,
        rejections=person.rejections,
        median_seconds=person.median_seconds,
        pre_labels_unchanged=person.unchanged,
        pre_labels_changed=person.changed,
        leased=person.leased,
        last_time=timestamp(person.last_time),
    )


def figure_message(figure: Figure) -> record_pb.AgreementFigure:
    """A figure of agreement."""
    return record_pb.AgreementFigure(
        name=figure.name,
        value=figure.value,
        lower=figure.lower,
        upper=figure.upper,
        tasks=figure.tasks,
        annotators=figure.annotators,
    )


def agreement_message(name: str, result: RoundResult, people: Sequence[Person]) -> pb.AnnotationAgreement:
    """How far people agree; of those who do, what else they did."""
    known = {person.annotator: person for person in people}
    annotators = []
    for name_, (share, count) in result.agreements.items():
        message = person_message(known.get(name_, Person(name_)))
        message.agreement, message.compared = share, count
        annotators.append(message)
    return pb.AnnotationAgreement(
        name=name,
        compared_tasks=result.compared,
        figures=[figure_message(figure) for figure in result.figures],
        annotators=annotators,
        disagreements=[f"{name}/tasks/{task}" for task in result.disagreements[:1000]],
        disagreement_count=len(result.disagreements),
        confusions=[
            pb.AnnotatorConfusion(annotator=each.annotator, classes=each.classes, shares=each.shares)
            for each in result.confusions
        ],
        notes=result.notes,
    )


def record_message(record: AnnotationRecord) -> record_pb.AnnotationRecord:
    """A version's record of its round."""
    return record_pb.AnnotationRecord(
        annotation_round=record.round,
        label_schema=record.label_schema,
        annotators=record.annotators,
        answer_count=record.answer_count,
        example_count=record.example_count,
        added_count=record.added_count,
        disagreement_count=record.disagreement_count,
        method=_METHODS[record.method],
        figures=[figure_message(figure) for figure in record.figures],
    )


def proposed_message(found: Proposed) -> service_pb.ProposeExamplesResponse:
    """What to label next."""
    made = found.proposal
    rows = zip(found.examples, made.uncertainty.tolist(), made.novelty.tolist(), strict=True)
    return service_pb.ProposeExamplesResponse(
        examples=[
            pb.ProposedExample(example_id=each.example_id, path=each.path, uncertainty=unsure, novelty=novel)
            for each, unsure, novel in rows
        ],
        candidate_count=found.candidates,
        strategy=_STRATEGIES[made.strategy],
    )
