"""What commands print of the ledger: lists with metrics, and jobs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from modelyard.cli.durations import spoken
from modelyard.cli.live import sparkline, state_name
from modelyard.cli.output import date, number, print_table
from modelyard.client import last_part, short

if TYPE_CHECKING:
    from modelyard.trainer.v1 import trainer_pb2, trainer_service_pb2

CURVE_WIDTH: Final = 60


def best_metrics(job: trainer_pb2.TrainingJob) -> dict[str, float]:
    """The validation metrics of a job's best checkpoint."""
    best = next((each for each in job.checkpoints if each.kind == 2), None)
    return dict(best.metrics) if best is not None else {}


def print_jobs(jobs: Sequence[trainer_pb2.TrainingJob]) -> None:
    """A line for each job, with its metrics and tags."""
    rows = []
    for job in jobs:
        scores = "  ".join(f"{name} {number(value)}" for name, value in sorted(best_metrics(job).items()))
        recipe = job.resolved_recipe
        rows.append(
            (
                last_part(job.name),
                state_name(job.status.state),
                short(job.dataset_version),
                recipe.recipe_id,
                scores,
                ", ".join(job.tags),
                spoken(job.train_duration.ToNanoseconds() / 1e9),
                date(job.status.create_time),
            )
        )
    print_table(("name", "state", "data", "recipe", "best", "tags", "trained", "created"), rows)


def print_comparison(found: trainer_service_pb2.CompareTrainingJobsResponse) -> None:
    """Settings that differ, then what the jobs came to, then their curves."""
    ids = [last_part(side.job.name) for side in found.jobs]
    rows: list[tuple[Any, ...]] = [(setting.name, *setting.values) for setting in found.settings]
    names = sorted({name for side in found.jobs for name in side.metrics})
    rows += [(name, *(number(side.metrics[name]) if name in side.metrics else "" for side in found.jobs)) for name in names]
    rows.append(("gain", *(_gain(side, found.metric, at) for at, side in enumerate(found.jobs))))
    rows.append(("spread", *(_spread(side) for side in found.jobs)))
    rows.append(("steps", *(side.steps for side in found.jobs)))
    rows.append(("trained", *(spoken(side.train_duration.ToNanoseconds() / 1e9) for side in found.jobs)))
    rows.append(("parameters", *(side.parameter_count for side in found.jobs)))
    rows.append(("state", *(f"{state_name(side.job.status.state)} {side.job.status.reason}".strip() for side in found.jobs)))
    print_table(("",), rows, ids)
    for title, values in _curves(found):
        print(f"\n{title}")
        for id_, curve in zip(ids, values, strict=True):
            if curve:
                print(f"  {id_:20} {sparkline(curve, CURVE_WIDTH)}  {number(curve[0])} to {number(curve[-1])}")


def _curves(found: trainer_service_pb2.CompareTrainingJobsResponse) -> list[tuple[str, list[list[float]]]]:
    curves = [("training loss", [[point.loss for point in side.points if point.loss] for side in found.jobs])]
    if found.metric:
        of_metric = [[p.metrics[found.metric] for p in side.points if found.metric in p.metrics] for side in found.jobs]
        curves.append((found.metric, of_metric))
    return curves


def _gain(side: Any, metric: str, at: int) -> str:
    if at == 0 or metric not in side.metrics:
        return ""
    if not side.HasField("beyond_spread"):
        return f"{side.gain:+.4g} (spread unknown)"
    return f"{side.gain:+.4g} ({'more than chance' if side.beyond_spread else 'not more than chance'})"


def _spread(side: Any) -> str:
    return f"{number(side.spread.deviation)} over {side.spread.runs} seeds" if side.HasField("spread") else ""
