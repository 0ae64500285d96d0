"""What an evaluation kept of single examples: listed, and as curves."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.core import names
from modelyard.core.artifacts import Blob
from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.core.resources import check_page_size
from modelyard.evaluator.domain.curves import Bin, PrecisionRecall, Residuals, calibration, precision_recall, residuals
from modelyard.evaluator.domain.evaluation import TEST
from modelyard.evaluator.domain.scores import ExampleScore
from modelyard.evaluator.handlers.evaluations import result_of
from modelyard.evaluator.ports import Jobs, Predictions

MOST_CURVES = 100
MOST_IDS = 1000


def list_predictions(
    jobs: Jobs,
    predictions: Predictions,
    parent: str,
    chosen: tuple[str, str, str],
    page_size: int,
    page_token: str,
    ids: Sequence[str] = (),
) -> tuple[Sequence[ExampleScore], str, int]:
    """A page of what the model says of examples, the surest first, the next page's token, and how many there are in all.

    chosen: usage ("": test), label and prediction ("": any). ids: only these examples, with the boxes found in them.
    Raises NotFound, FailedPrecondition NO_PREDICTIONS, InvalidArgument.
    """
    if len(ids) > MOST_IDS:
        message = f"example_ids names {len(ids)} examples; at most {MOST_IDS} at once"
        raise InvalidArgument("TOO_MANY_EXAMPLES", message, field="example_ids", value=str(len(ids)))
    names.EVALUATION.parse(parent, "parent")
    size = check_page_size(page_size)
    start = _start(page_token)
    usage, label, prediction = chosen
    found, total = predictions.page(parent, _blob(jobs, parent), (usage or TEST, label, prediction), start, size, frozenset(ids))
    after = start + len(found)
    return found, str(after) if found and after < total else "", total


def read_curves(
    jobs: Jobs, predictions: Predictions, name: str, usage: str
) -> tuple[list[tuple[str, PrecisionRecall]], list[Bin]]:
    """Precision over recall by class, and calibration; both empty where the task has no probabilities.

    Raises NotFound, FailedPrecondition NO_PREDICTIONS.
    """
    names.EVALUATION.parse(name)
    found = predictions.chances(name, _blob(jobs, name), usage or TEST)
    if found is None or not len(found.labels):
        return [], []
    curves = [
        (label, precision_recall(found.chances[:, at].astype(float), found.labels == label))
        for at, label in enumerate(found.classes)
        if (found.labels == label).any()
    ]
    best = found.chances.argmax(axis=1)
    right = found.labels == [found.classes[at] for at in best]
    return curves[:MOST_CURVES], calibration(found.chances.max(axis=1).astype(float), right)


def read_residuals(
    jobs: Jobs, predictions: Predictions, name: str, usage: str
) -> tuple[Residuals, list[tuple[str, float, float]]] | None:
    """How far a regression is off on a usage ("": test), and (id, label, prediction) of examples to show; None for other tasks.

    Raises NotFound, FailedPrecondition NO_PREDICTIONS.
    """
    names.EVALUATION.parse(name)
    found = predictions.numbers(name, _blob(jobs, name), usage or TEST)
    if found is None or not len(found.labels):
        return None
    made = residuals(found.labels, found.predictions)
    shown = [(found.ids[row], float(found.labels[row]), float(found.predictions[row])) for row in made.rows.tolist()]
    return made, shown


def _blob(jobs: Jobs, name: str) -> Blob:
    result = result_of(jobs.get(name))
    if result is None or result.predictions is None:
        message = f"{name} has no predictions; it must have SUCCEEDED"
        raise FailedPrecondition("NO_PREDICTIONS", message, evaluation=name)
    return result.predictions


def _start(page_token: str) -> int:
    if page_token and not page_token.isdecimal():
        shown = page_token[:200]
        message = f"page_token is {shown!r}; it must be the next_page_token of an answer to the same list"
        raise InvalidArgument("BAD_PAGE_TOKEN", message, field="page_token", value=shown)
    return int(page_token or 0)
