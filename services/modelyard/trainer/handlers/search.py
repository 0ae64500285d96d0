"""Finding training jobs, and putting some of them side by side."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from modelyard.core.errors import InvalidArgument
from modelyard.core.jobs.job import Job
from modelyard.core.names import DATASET, DATASET_VERSION, MODEL, PROJECT, id_of
from modelyard.core.resources import check_skip
from modelyard.recipes.features import features_shown
from modelyard.recipes.policy import policy_shown
from modelyard.trainer.domain.comparing import Verdict, against_run
from modelyard.trainer.domain.curves import curve_of, higher_is_better, metric_of
from modelyard.trainer.domain.ledger import Spread
from modelyard.trainer.domain.recipe import settings_of
from modelyard.trainer.domain.training_job import KIND, spec_from, state_from
from modelyard.trainer.handlers import ledger
from modelyard.trainer.handlers.training_jobs import get_training_job, recipe_as_run, state_of
from modelyard.trainer.ports import Jobs, Resources

LONGEST_TEXT: Final = 200
DEFAULT_PAGE, LARGEST_PAGE = 50, 1000
MOST_COMPARED: Final = 20
POINTS_SHOWN: Final = 200


@dataclass(frozen=True)
class Filter:
    """Which jobs are wanted, and in which order; see ListTrainingJobsRequest. Empty: all, the newest first."""

    dataset: str = ""
    model: str = ""
    task: str = ""
    tag: str = ""
    text: str = ""
    order_by: str = ""
    experiment: str = ""
    show_parts: bool = False


@dataclass(frozen=True)
class FoundPage:
    """Some of a list; `next_page_token` is empty at the end."""

    items: Sequence[Job]
    next_page_token: str


def list_training_jobs(jobs: Jobs, parent: str, wanted: Filter, page_size: int, page_token: str, skip: int = 0) -> FoundPage:
    """The training jobs of a project that a filter lets through, the first page after `skip` of them.

    Raises InvalidArgument naming the field.
    """
    PROJECT.parse(parent, "parent")
    _check(wanted)
    if page_size < 0:
        message = f"page_size is {page_size}; it must be 0 (the default, {DEFAULT_PAGE}) to {LARGEST_PAGE}"
        raise InvalidArgument("BAD_PAGE_SIZE", message, field="page_size", value=page_size)
    size = min(page_size or DEFAULT_PAGE, LARGEST_PAGE)
    query = json.dumps([parent, asdict(wanted)], sort_keys=True)
    position, last = _position_of(page_token, query)
    names = _names(jobs, parent, wanted)
    start = check_skip(skip) if not page_token else names.index(last) + 1 if last in names else position
    end = start + size
    shown = [jobs.get(name) for name in names[start:end]]
    return FoundPage(shown, _token(end, names[end - 1], query) if end < len(names) else "")


def _names(jobs: Jobs, parent: str, wanted: Filter) -> list[str]:
    """The names of the jobs that are wanted, in their order. What became of a job is read only where it is asked about."""
    names = [name for name, spec in jobs.specs(KIND, parent) if _about(spec, wanted)]
    if not (wanted.tag or wanted.text or wanted.order_by):
        return names
    known = {job.name: job for job in jobs.find(KIND, parent=parent)}
    found = [known[name] for name in names if name in known and _said(known[name], wanted)]
    return [job.name for job in (_by_metric(found, wanted.order_by) if wanted.order_by else found)]


@dataclass(frozen=True)
class Side:
    """A job of a comparison. metrics: its best; points: of its curve; gain and verdict: against the first job."""

    job: Job
    metrics: Mapping[str, float]
    points: Sequence[Mapping[str, Any]]
    steps: int
    seconds: float
    parameters: int
    spread: Spread | None
    gain: float
    verdict: Verdict | None


@dataclass(frozen=True)
class Comparison:
    """Jobs side by side. settings: those that differ, with a value (as text) for each job."""

    sides: tuple[Side, ...]
    settings: Mapping[str, tuple[str, ...]]
    metric: str
    higher_is_better: bool


def compare_training_jobs(jobs: Jobs, resources: Resources, parent: str, names: Sequence[str]) -> Comparison:
    """Puts jobs side by side. Raises InvalidArgument BAD_COUNT, DUPLICATE_NAME, OTHER_PROJECT, NotFound."""
    PROJECT.parse(parent, "parent")
    _check_names(parent, names)
    found = [get_training_job(jobs, name, f"names[{at}]") for at, name in enumerate(names)]
    metrics = [ledger.metrics_of(job) for job in found]
    common = set.intersection(*(set(each) for each in metrics)) if metrics else set()
    metric = metric_of(common)
    spreads = [_spread(jobs, resources, job, metric) for job in found]
    sides = tuple(
        _side(jobs, job, metrics[at], spreads[at], metric, (metrics[0], spreads[0] or spreads[at]))
        for at, job in enumerate(found)
    )
    return Comparison(sides, _differing(found), metric, higher_is_better(metric))


def shown_points(points: Sequence[Mapping[str, Any]], most: int = POINTS_SHOWN) -> list[Mapping[str, Any]]:
    """At most so many points of a curve, spread over it; those with metrics before the others."""
    measured = [point for point in points if point.get("metrics")]
    chosen = _spread_over(measured, most)
    others = [point for point in points if not point.get("metrics")]
    chosen += _spread_over(others, most - len(chosen))
    return sorted(chosen, key=lambda point: (point["step"], point.get("time", 0)))


def points_of(jobs: Jobs, name: str) -> list[Mapping[str, Any]]:
    """All points of a job's curve, in the order they came."""
    return [event for event in jobs.events(name) if "step" in event and "note" not in event]


def _side(
    jobs: Jobs,
    job: Job,
    metrics: Mapping[str, float],
    spread: Spread | None,
    metric: str,
    first: tuple[Mapping[str, float], Spread | None],
) -> Side:
    state, points = state_from(state_of(job)), points_of(jobs, job.name)
    gain, verdict = 0.0, None
    if metric and metrics is not first[0] and metric in metrics and metric in first[0]:
        sign = 1 if higher_is_better(metric) else -1
        gain = sign * (metrics[metric] - first[0][metric])
        verdict = against_run(metrics[metric], first[0][metric], sign, first[1], 0.0) if first[1] is not None else None
    curve = curve_of(points)
    steps = int(curve.steps[-1]) if len(curve.steps) else 0
    parameters = int((job.result or {}).get("parameter_count", 0))
    return Side(job, metrics, shown_points(points), steps, state.train_seconds, parameters, spread, gain, verdict)


def _spread(jobs: Jobs, resources: Resources, job: Job, metric: str) -> Spread | None:
    experiment = spec_from(job.spec).experiment
    runs = ledger.runs_of(jobs, resources, job.parent, experiment) if experiment else []
    return ledger.spread_among(runs, metric) if metric else None


def _differing(found: Sequence[Job]) -> dict[str, tuple[str, ...]]:
    described = [_described(job) for job in found]
    names = list(dict.fromkeys(name for each in described for name in each))
    table = {name: tuple(each.get(name, "") for each in described) for name in names}
    return {name: values for name, values in table.items() if len(set(values)) > 1}


def _described(job: Job) -> dict[str, str]:
    """Everything about a job that may make a difference, as text."""
    spec, recipe = spec_from(job.spec), recipe_as_run(job)
    start = "afresh"
    if spec.resume_from is not None:
        start = f"{spec.resume_from.checkpoint.kind} of {id_of(spec.resume_from.training_job)}"
    elif spec.warm_start is not None:
        start = spec.warm_start.model_version
    size = recipe.input
    return {
        "dataset_version": "/".join(spec.dataset_version.split("/")[3::2]),
        "fold": spec.fold,
        "recipe": recipe.name,
        "architecture": recipe.architecture,
        "framework": recipe.framework if recipe.tabular is None else "",
        "input": f"{size.height} x {size.width} x {size.channels}" if size else "",
        "weights": recipe.weights,
        "start": start,
        "max_training_time": f"{spec.max_training_time_s:g} s" if spec.max_training_time_s else "",
        **{name: _text(value) for name, value in settings_of(recipe).items()},
        **features_shown(recipe.features),
        **policy_shown(recipe.augmentation),
    }


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _about(spec: Mapping[str, Any], wanted: Filter) -> bool:
    """By the spec as it is stored: reading a thousand of them into the domain's own form takes longer than a page may."""
    version = spec["dataset_version"]
    return (
        (wanted.show_parts or not spec.get("part_of"))
        and wanted.dataset in ("", version, version.rpartition("/versions/")[0])
        and wanted.model in ("", spec["model"])
        and wanted.task in ("", spec["recipe"]["task"])
        and wanted.experiment in ("", spec.get("experiment"))
    )


def _said(job: Job, wanted: Filter) -> bool:
    return (not wanted.tag or wanted.tag in ledger.written_on(job).tags) and (
        not wanted.text or wanted.text.lower() in _words(job).lower()
    )


def _words(job: Job) -> str:
    spec, written = spec_from(job.spec), ledger.written_on(job)
    state = state_from(state_of(job))
    said = [remark.text for remark in written.remarks] + [note.message for note in state.notes]
    return "\n".join((id_of(job.name), spec.display_name, spec.recipe.name, spec.repeat_reason, *written.tags, *said))


def _by_metric(found: list[Job], metric: str) -> list[Job]:
    scored = {job.name: ledger.metrics_of(job).get(metric) for job in found}
    sign = -1 if higher_is_better(metric) else 1
    have = [job for job in found if scored[job.name] is not None]
    return sorted(have, key=lambda job: sign * float(scored[job.name] or 0.0)) + [
        job for job in found if scored[job.name] is None
    ]


def _check(wanted: Filter) -> None:
    if wanted.dataset and not DATASET.matches(wanted.dataset):
        DATASET_VERSION.parse(wanted.dataset, "dataset")
    if wanted.model:
        MODEL.parse(wanted.model, "model")
    for field in fields(wanted):
        value = getattr(wanted, field.name)
        if isinstance(value, str) and len(value) > (LONGEST_TEXT if field.name == "text" else 5 * LONGEST_TEXT):
            message = f"{field.name} has {len(value)} characters; at most {LONGEST_TEXT} are allowed"
            raise InvalidArgument("TEXT_TOO_LONG", message, field=field.name, length=len(value))


def _check_names(parent: str, names: Sequence[str]) -> None:
    if not 1 <= len(names) <= MOST_COMPARED:
        message = f"names has {len(names)} names; 1 to {MOST_COMPARED} training jobs are compared"
        raise InvalidArgument("BAD_COUNT", message, field="names", value=len(names))
    for at, name in enumerate(names):
        if name in names[:at]:
            raise InvalidArgument(
                "DUPLICATE_NAME", f"names[{at}] is {name}, which is there twice", field=f"names[{at}]", value=name
            )
        if not name.startswith(f"{parent}/"):
            message = f"names[{at}] is {name[:200]!r}, which is not in {parent}"
            raise InvalidArgument("OTHER_PROJECT", message, field=f"names[{at}]", value=name[:200], parent=parent)


def _spread_over(points: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    if len(points) <= most:
        return list(points)
    if most < 2:
        return list(points[-most:]) if most else []
    return [points[round(at * (len(points) - 1) / (most - 1))] for at in range(most)]


def _token(position: int, last: str, query: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([_digest(query), position, last]).encode()).decode()


def _position_of(page_token: str, query: str) -> tuple[int, str]:
    """Where a page begins, and what came before it (which may have moved since)."""
    if not page_token:
        return 0, ""
    try:
        digest, position, last = json.loads(base64.b64decode(page_token, altchars=b"-_", validate=True))
        if digest == _digest(query) and isinstance(position, int) and position >= 0:
            return position, str(last)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        pass
    shown = page_token[:200]
    message = f"page_token is {shown!r}; it must be the next_page_token of an answer to the same list with the same filter"
    raise InvalidArgument("BAD_PAGE_TOKEN", message, field="page_token", value=shown)


def _digest(query: str) -> str:
    return hashlib.sha256(query.encode()).hexdigest()[:12]
