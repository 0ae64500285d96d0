"""The ledger of experiments: entering a run, what its experiment came to before, and what people write down about runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from modelyard.core.database import now
from modelyard.core.errors import AlreadyExists, NotFound
from modelyard.core.jobs.job import Job
from modelyard.formats.provenance import training_code
from modelyard.trainer.domain.curves import metric_of
from modelyard.trainer.domain.ledger import (
    EarlierRun,
    Remark,
    Spread,
    Written,
    came_to,
    check_new,
    check_remark,
    check_tags,
    fingerprint_of,
    seed_of,
    spread_of,
    written_from,
    written_text,
)
from modelyard.trainer.domain.training_job import TrainingSpec, result_from, spec_from, state_from
from modelyard.trainer.ports import Jobs, Resources

COLLECTION: Final = "experiments"
LABEL: Final = "written"
MAKING: Final = timedelta(seconds=60)
"""How long an entry holds for a job that is about to be written down."""


@contextmanager
def entered(
    jobs: Jobs, resources: Resources, parent: str, name: str, spec: TrainingSpec, *, again: bool
) -> Iterator[TrainingSpec]:
    """Enters a run that is about to be made into the ledger, and gives its spec with the experiment; takes it out again when it
    is not made after all. again: the same request made it before, so nothing is entered.

    Raises AlreadyExists EXPERIMENT_REPEATED.
    """
    whole = replace(spec, experiment=fingerprint_of(spec, training_code()))
    if again:
        yield whole
        return
    runs = _enter(jobs, resources, parent, name, whole)
    first = next((run["job"] for run in runs if run["job"] != name), "")
    try:
        yield replace(whole, repeat_of=first, repeat_reason=whole.repeat_reason if first else "")
    except Exception:
        with suppress(NotFound):
            jobs.get(name)
            raise
        leave(resources, parent, whole.experiment, name)
        raise


def leave(resources: Resources, parent: str, experiment: str, name: str) -> None:
    """Takes a run out of the ledger."""

    def without(document: dict[str, Any]) -> dict[str, Any]:
        return {**document, "runs": [run for run in document["runs"] if run["job"] != name]}

    with suppress(NotFound):
        resources.update(_index(parent, experiment), without)


def runs_of(jobs: Jobs, resources: Resources, parent: str, experiment: str) -> list[Job]:
    """The runs of an experiment that are there, in the order they were made."""
    try:
        entries = resources.get(_index(parent, experiment)).document["runs"]
    except NotFound:
        return []
    found = []
    for entry in entries:
        with suppress(NotFound):
            found.append(jobs.get(entry["job"]))
    return found


def spread_among(runs: Sequence[Job], metric: str = "") -> Spread | None:
    """How far apart runs of an experiment came out, by a metric ("": the one that runs are judged by); None with fewer than 2
    seeds."""
    results = {job.name: metrics_of(job) for job in runs}
    metric = metric or metric_of(name for metrics in results.values() for name in metrics)
    pairs = [(seed_of(spec_from(job.spec)), results[job.name][metric]) for job in runs if metric in results[job.name]]
    return spread_of(metric, pairs)


def metrics_of(job: Job) -> dict[str, float]:
    """The validation metrics of the model that a job kept; of a job without a result those of its best checkpoint."""
    if job.result and "metrics" in job.result:
        return dict(result_from(job.result).metrics)
    state = state_from((job.result or {}).get("state") or job.saved)
    best = state.checkpoints.get("best")
    return dict(best.metrics) if best else {}


def written_on(job: Job) -> Written:
    """What people have written on a job."""
    return written_from(job.labels.get(LABEL, ""))


def labels_of(tags: Sequence[str]) -> dict[str, str]:
    """Labels of a new job with these tags."""
    return {LABEL: written_text(Written(check_tags(tags)))} if tags else {}


def set_tags(jobs: Jobs, name: str, tags: Sequence[str]) -> Job:
    """Changes a job's tags. Raises InvalidArgument BAD_TAG, TOO_MANY_TAGS."""
    checked = check_tags(tags)
    return jobs.relabel(name, _writing(lambda written: replace(written, tags=checked)))


def add_remark(jobs: Jobs, name: str, text: str, author: str) -> Job:
    """Writes down a remark. Raises InvalidArgument EMPTY_TEXT, TEXT_TOO_LONG, FailedPrecondition TOO_MANY_REMARKS."""

    def add(written: Written) -> Written:
        checked = check_remark(text, len(written.remarks))
        return replace(written, remarks=(*written.remarks, Remark(checked, author, now().isoformat())))

    return jobs.relabel(name, _writing(add))


def _writing(change: Callable[[Written], Written]) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
    return lambda labels: {**labels, LABEL: written_text(change(written_from(labels.get(LABEL, ""))))}


def _enter(jobs: Jobs, resources: Resources, parent: str, name: str, spec: TrainingSpec) -> list[dict[str, Any]]:
    """The entries of the experiment with the new one. Checked and written as one: of two at once one comes second."""
    index = _index(parent, spec.experiment)
    with suppress(AlreadyExists):
        resources.create(index, COLLECTION, parent, {"runs": []})

    def with_run(document: dict[str, Any]) -> dict[str, Any]:
        entries = [entry for entry in document["runs"] if entry["job"] != name]
        found = [(entry, _earlier(jobs, entry)) for entry in entries]
        check_new(spec, [run for _, run in found if run is not None])
        kept = [entry for entry, run in found if run is not None]
        return {"runs": [*kept, {"job": name, "seed": seed_of(spec), "time": now().isoformat()}]}

    return list(resources.update(index, with_run).document["runs"])


def _earlier(jobs: Jobs, entry: Mapping[str, Any]) -> EarlierRun | None:
    """A run as it stands; None for one that is gone."""
    try:
        job = jobs.get(entry["job"])
    except NotFound:
        young = now() - datetime.fromisoformat(entry["time"]) < MAKING
        return EarlierRun(entry["job"], entry["seed"], "QUEUED", "", "is being created") if young else None
    reason = str((job.error or {}).get("reason", "")) or job.reason
    told = came_to(job.state.value, reason, metrics_of(job), str((job.error or {}).get("message", "")))
    return EarlierRun(job.name, entry["seed"], job.state.value, reason, told)


def _index(parent: str, experiment: str) -> str:
    return f"{parent}/{COLLECTION}/{experiment}"
