"""Scores key points: how near they are, and what a meter's points make it show. Points are matched by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition
from modelyard.evaluator.domain import gaps, picture_scores
from modelyard.evaluator.domain.evaluation import TEST, TRAIN, VALIDATION
from modelyard.evaluator.domain.keypoints import PointPairs, metrics_of, picture_oks, point_scores, readings
from modelyard.evaluator.domain.scores import Metric, SliceScore, UsageResult, UsageScore
from modelyard.evaluator.domain.slices import score_slices
from modelyard.evaluator.worker.answers import Answers, Columns, Findings, TaskScoring, chosen_ids
from modelyard.formats.agreement import KEYPOINTS
from modelyard.formats.bundle import BundleCard
from modelyard.formats.dataset import DatasetReader
from modelyard.formats.keypoints import points_of
from modelyard.statistics.intervals import Floats, Ints

if TYPE_CHECKING:
    import pyarrow as pa

PAIRED: Final = "picture_oks"
MAIN: Final = (PAIRED, "pck_05")
BASELINE: Final = "always the mean place of each point in the training pictures"


@dataclass(frozen=True)
class _Scored:
    """A usage: its points, those of the baseline, and the figure of each picture."""

    answer: Answers
    names: tuple[str, ...]
    pairs: PointPairs
    plain: PointPairs

    @property
    def figures(self) -> Floats:
        """picture_oks [N]."""
        return picture_oks(self.pairs)


def check(card: BundleCard, reader: DatasetReader) -> None:
    """Raises FailedPrecondition CLASSES_DIFFER where the data know a point that the model does not find."""
    missing = [name for name in reader.descriptor.keypoints if name not in card.classes]
    if missing or not reader.descriptor.keypoints:
        message = (
            f"the data mark {', '.join(reader.descriptor.keypoints) or 'no points'}; the model finds {', '.join(card.classes)}"
        )
        raise FailedPrecondition("CLASSES_DIFFER", message, missing=", ".join(missing))


def read(card: BundleCard, answers: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """Points [N, K, 3]: x, y (0 to 1), score. Raises FailedPrecondition WRONG_OUTPUT."""
    found = np.asarray(answers.get(KEYPOINTS, np.empty(0)), np.float32)
    if found.ndim != 3 or found.shape[1:] != (len(card.classes), 3):
        named = ", ".join(f"{name} {list(np.shape(value))}" for name, value in answers.items())
        message = f"the model answers {named}; {KEYPOINTS} [N, {len(card.classes)}, 3] is right"
        raise FailedPrecondition("WRONG_OUTPUT", message, found=named)
    return found


def judge(card: BundleCard, reader: DatasetReader, answers: Sequence[Answers], columns: Columns) -> Findings:
    """Everything there is to say of a finder of points."""
    mean = _mean_places(reader)
    parts = {answer.usage: _scored(card, reader, answer, mean) for answer in answers}
    results = {usage: _result(part) for usage, part in parts.items()}
    scores = {usage: result.score for usage, result in results.items()}
    return Findings(
        tuple(results.values()),
        _slices(parts[TEST], columns) if TEST in parts else (),
        tuple(example for part in parts.values() for example in _worst(part, reader)),
        train_gaps=gaps.train_gaps(scores.get(TRAIN), scores.get(VALIDATION), MAIN),
    )


def _mean_places(reader: DatasetReader) -> Floats:
    """The mean place of each point [K, 2] as shares; the middle where no training picture marks it."""
    usage = TRAIN if len(reader.indices(TRAIN)) else TEST
    points, _ = points_of(reader.annotations(usage).marks(), _sizes(reader, usage))
    counts = points[..., 2].sum(axis=0)[:, None]
    sums = (points[..., :2] * points[..., 2:]).sum(axis=0)
    means: Floats = np.divide(sums, counts, out=np.full_like(sums, 0.5), where=counts > 0)
    return means


def _sizes(reader: DatasetReader, usage: str) -> Floats:
    facts = reader.picture_facts(usage)
    return np.stack([facts["width"], facts["height"]], axis=1).astype(np.float64).reshape(-1, 2)


def _scored(card: BundleCard, reader: DatasetReader, answer: Answers, mean: Floats) -> _Scored:
    names, sizes = reader.descriptor.keypoints, _sizes(reader, answer.usage)
    points, extents = points_of(reader.annotations(answer.usage).marks(), sizes)
    points, extents, sizes = points[answer.positions], extents[answer.positions], sizes[answer.positions]
    order = [card.classes.index(name) for name in names]
    found = answer.outputs.astype(np.float64)[:, order]
    true, scale = points[..., :2] * sizes[:, None], np.sqrt((extents * sizes).prod(axis=1))
    marked = points[..., 2] > 0
    plain = np.broadcast_to(mean[None], true.shape) * sizes[:, None]
    return _Scored(
        answer,
        names,
        PointPairs(true, marked, found[..., :2] * sizes[:, None], found[..., 2], scale),
        PointPairs(true, marked, plain, np.ones_like(found[..., 2]), scale),
    )


def _result(part: _Scored) -> UsageResult:
    usage, count = part.answer.usage, len(part.pairs.true)
    return UsageResult(
        UsageScore(usage, count, metrics_of(part.pairs, part.names), point_scores(part.pairs, part.names)),
        UsageScore(usage, count, metrics_of(part.plain, part.names)),
        (picture_scores.paired(PAIRED, part.figures, picture_oks(part.plain)),),
        BASELINE,
    )


def _slices(part: _Scored, columns: Columns) -> tuple[SliceScore, ...]:
    figures = part.figures

    def score(rows: Ints) -> tuple[Metric, ...]:
        return (picture_scores.mean_of(PAIRED, figures[rows]),)

    return score_slices(columns, score)


def _worst(part: _Scored, reader: DatasetReader) -> Any:
    said, true = _texts(part)
    return picture_scores.worst(
        part.answer.usage, chosen_ids(part.answer, reader), part.figures, said, true, part.pairs.scores.mean(axis=1)
    )


def _texts(part: _Scored) -> tuple[list[str], list[str]]:
    """What was found and what is true, in words: a meter's reading, else how many points are near."""
    pairs = part.pairs
    true = readings(pairs.true, pairs.marked, part.names)
    found = readings(pairs.found, np.ones_like(pairs.marked), part.names)
    near = (np.nan_to_num(pairs.shares, nan=np.inf) <= 0.1).sum(axis=1)
    said = [
        f"{near[at]} of {int(pairs.marked[at].sum())} points near"
        + (f", reads {found[at]:.3f}" if np.isfinite(found[at]) else "")
        for at in range(len(near))
    ]
    named = [
        f"{int(pairs.marked[at].sum())} points" + (f", reads {true[at]:.3f}" if np.isfinite(true[at]) else "")
        for at in range(len(near))
    ]
    return said, named


def rows(card: BundleCard, reader: DatasetReader, answer: Answers) -> pa.Table:
    """Columns example_id, usage, label and prediction (in words), score (picture_oks), keypoints: x, y in pixels of the picture
    and score of each point found, one after the other."""
    import pyarrow as pa

    part = _scored(card, reader, answer, np.full((len(reader.descriptor.keypoints), 2), 0.5))
    said, true = _texts(part)
    found = np.concatenate([part.pairs.found, part.pairs.scores[..., None]], axis=2).astype(np.float32)
    return pa.table(
        {
            "example_id": pa.array(chosen_ids(answer, reader), pa.string()),
            "usage": pa.array([answer.usage] * len(said), pa.string()),
            "label": pa.array(true, pa.string()),
            "prediction": pa.array(said, pa.string()),
            "score": pa.array(part.figures, pa.float64()),
            "keypoints": pa.array([one.ravel().tolist() for one in found], pa.list_(pa.float32())),
        }
    )


KEYPOINT_SCORING: Final = TaskScoring(check, read, judge, rows)
