"""Searches and comparisons: contract messages to domain values and back."""

from __future__ import annotations

from modelyard.core.jobs import convert as job_convert
from modelyard.trainer.domain.ledger import Spread
from modelyard.trainer.handlers.search import Comparison, Filter, Side
from modelyard.trainer.rpc import convert
from modelyard.trainer.v1 import ledger_pb2 as pb
from modelyard.trainer.v1 import trainer_service_pb2 as service_pb


def filter_from(request: service_pb.ListTrainingJobsRequest) -> Filter:
    """Which jobs a request wants."""
    return Filter(
        dataset=request.dataset,
        model=request.model,
        task=convert.task_name(request.task, "task"),
        tag=request.tag,
        text=request.text,
        order_by=request.order_by,
        experiment=request.experiment,
        show_parts=request.show_parts,
    )


def comparison_message(found: Comparison) -> service_pb.CompareTrainingJobsResponse:
    """Jobs side by side."""
    return service_pb.CompareTrainingJobsResponse(
        jobs=[_side_message(side) for side in found.sides],
        settings=[pb.DifferingSetting(name=name, values=values) for name, values in found.settings.items()],
        metric=found.metric,
        higher_is_better=found.higher_is_better,
    )


def spread_message(spread: Spread | None) -> pb.RunSpread | None:
    """A spread; None stays None."""
    if spread is None:
        return None
    return pb.RunSpread(metric=spread.metric, runs=spread.runs, mean=spread.mean, deviation=spread.deviation)


def _side_message(side: Side) -> pb.ComparedJob:
    return pb.ComparedJob(
        job=convert.training_job_message(side.job),
        metrics=side.metrics,
        points=[convert.point_message(point) for point in side.points],
        train_duration=job_convert.duration(side.seconds),
        steps=side.steps,
        parameter_count=side.parameters,
        spread=spread_message(side.spread),
        gain=side.gain,
        beyond_spread=None if side.verdict is None else side.verdict.effect == "HELPED",
    )
