"""The ledger: what makes two runs the same experiment, when one may be run again, and what people write down about runs.

The fingerprint of an experiment is over all that decides what comes out but chance: the digest of the data, the resolved recipe
without its seed, where the run starts, its time limit, and the code that trains. Runs of one experiment differ by chance alone,
so they tell how far apart chance puts them; and running an experiment again tells nothing new, unless that is what is wanted.
"""

from __future__ import annotations

import hashlib
import json
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from modelyard.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from modelyard.recipes.recipe import recipe_document
from modelyard.trainer.domain.training_job import TrainingSpec

LONGEST_REASON: Final = 500
LONGEST_REMARK: Final = 4000
MOST_REMARKS: Final = 200
MOST_TAGS: Final = 20
_TAG = re.compile(r"[a-z0-9_.:-]{1,63}")
_BY_NAME_ONLY: Final = ("name", "summary", "parameters_m", "smallest_side")
"""Parts of a recipe that say nothing of what is trained."""
OWN_FAULTS: Final = ("DIVERGED", "NOTHING_TO_TRAIN")
"""Reasons of a failed run that lie in the experiment: the same again would fail again."""


@dataclass(frozen=True)
class Remark:
    """What somebody wrote down. time: ISO 8601, UTC."""

    text: str
    author: str
    time: str


@dataclass(frozen=True)
class Written:
    """What people have written on a job."""

    tags: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class EarlierRun:
    """A run of an experiment. came_to: what it came to, in a few words, as it stands now; counts: whether it came to anything."""

    job: str
    seed: int
    state: str
    reason: str
    came_to: str = ""

    @property
    def counts(self) -> bool:
        """Whether running the same again would tell nothing new: it runs, it succeeded, or it failed by its own fault."""
        return self.state in ("QUEUED", "RUNNING", "SUCCEEDED") or (self.state == "FAILED" and self.reason in OWN_FAULTS)


@dataclass(frozen=True)
class Spread:
    """How far apart runs of an experiment come out: mean and standard deviation of a metric over `runs` different seeds, 2 or
    more."""

    metric: str
    runs: int
    mean: float
    deviation: float


def fingerprint_of(spec: TrainingSpec, code: str) -> str:
    """The experiment of a spec: 64 hexadecimal digits. code: which code trains."""
    recipe = {name: value for name, value in recipe_document(spec.recipe).items() if name not in _BY_NAME_ONLY}
    for settings in ("hyperparameters", "tabular"):
        if recipe.get(settings):
            recipe[settings] = {name: value for name, value in recipe[settings].items() if name != "seed"}
    start = ""
    if spec.resume_from is not None:
        start = f"checkpoint {spec.resume_from.checkpoint.blob.sha256}"
    elif spec.warm_start is not None:
        start = f"weights {spec.warm_start.model_file.sha256}"
    whole = {
        "data": spec.dataset_digest,
        "fold": spec.fold and spec.descriptor.sha256,
        "recipe": recipe,
        "start": start,
        "limit_s": spec.max_training_time_s,
        "code": code,
        **({"pause_s": spec.pause_s} if spec.pause_s else {}),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True, allow_nan=False).encode()).hexdigest()


def seed_of(spec: TrainingSpec) -> int:
    """The seed of a spec's recipe."""
    settings = spec.recipe.tabular if spec.recipe.tabular is not None else spec.recipe.hyperparameters
    return int(settings.seed)


def check_new(spec: TrainingSpec, earlier: Sequence[EarlierRun]) -> None:
    """Raises AlreadyExists EXPERIMENT_REPEATED when a run of the same experiment and seed exists and no reason is given."""
    same = [run for run in earlier if run.counts and run.seed == seed_of(spec)]
    if not same or spec.repeat_reason:
        return
    found = same[-1]
    message = (
        f"this experiment exists: {found.job} has the same data, recipe, seed, start and code, and {found.came_to}. Change "
        "something, or give training_job.repeat_reason (--repeat REASON) if it is meant to be run again"
    )
    raise AlreadyExists(
        "EXPERIMENT_REPEATED",
        message,
        field="training_job.repeat_reason",
        training_job=found.job,
        experiment=spec.experiment,
        seed=found.seed,
        state=found.state,
        came_to=found.came_to,
    )


def came_to(state: str, reason: str, metrics: Mapping[str, float], message: str = "") -> str:
    """What a run came to, to follow its name: "ended (COMPLETED) with val_accuracy 0.91"."""
    if state in ("QUEUED", "RUNNING"):
        return f"is {state}"
    if state == "FAILED":
        return f"failed: {reason}" + (f" ({message[:200]})" if message else "")
    scores = ", ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items())[:4])
    return f"ended ({reason})" + (f" with {scores}" if scores else "")


def check_reason(reason: str) -> str:
    """The reason. Raises InvalidArgument TEXT_TOO_LONG."""
    return _short(reason.strip(), "training_job.repeat_reason", LONGEST_REASON)


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags, each once, in order. Raises InvalidArgument BAD_TAG, TOO_MANY_TAGS."""
    found = tuple(dict.fromkeys(tags))
    for at, tag in enumerate(found):
        if not _TAG.fullmatch(tag):
            path = f"training_job.tags[{at}]"
            message = f"{path} is {tag[:80]!r}; it must be 1 to 63 of a-z, 0-9, '-', '_', '.' and ':'"
            raise InvalidArgument("BAD_TAG", message, field=path, value=tag[:80])
    if len(found) > MOST_TAGS:
        message = f"training_job.tags has {len(found)} tags; at most {MOST_TAGS} are allowed"
        raise InvalidArgument("TOO_MANY_TAGS", message, field="training_job.tags", value=len(found))
    return found


def check_remark(text: str, already: int) -> str:
    """The text. Raises InvalidArgument EMPTY_TEXT, TEXT_TOO_LONG, FailedPrecondition TOO_MANY_REMARKS."""
    stripped = text.strip()
    if not stripped:
        raise InvalidArgument("EMPTY_TEXT", "text is empty; say what is to be written down", field="text")
    if already >= MOST_REMARKS:
        message = f"the job has {already} remarks; at most {MOST_REMARKS} are kept"
        raise FailedPrecondition("TOO_MANY_REMARKS", message, field="text", value=already)
    return _short(stripped, "text", LONGEST_REMARK)


def _short(text: str, path: str, limit: int) -> str:
    if len(text) > limit:
        message = f"{path} has {len(text)} characters; at most {limit} are allowed"
        raise InvalidArgument("TEXT_TOO_LONG", message, field=path, length=len(text), limit=limit)
    return text


def spread_of(metric: str, by_seed: Iterable[tuple[int, float]]) -> Spread | None:
    """The spread of (seed, value) pairs; None with fewer than 2 seeds.

    Runs of the same seed count as one, with their mean: where training is exact they are equal, and would make chance look
    smaller than it is.
    """
    groups: dict[int, list[float]] = {}
    for seed, value in by_seed:
        groups.setdefault(seed, []).append(value)
    means = [statistics.fmean(values) for values in groups.values()]
    if len(means) < 2:
        return None
    return Spread(metric, len(means), statistics.fmean(means), statistics.stdev(means))


# As a job's label, which holds text


def written_text(written: Written) -> str:
    """What people have written, as text."""
    return json.dumps(asdict(written), ensure_ascii=False)


def written_from(text: str) -> Written:
    """What people have written, from `written_text`; nothing from an empty text."""
    if not text:
        return Written()
    document: dict[str, Any] = json.loads(text)
    return Written(tuple(document.get("tags", ())), tuple(Remark(**each) for each in document.get("remarks", ())))
