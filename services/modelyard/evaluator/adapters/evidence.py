"""What lies in the artifact store about an evaluation: the predictions, and the bundle itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.errors import FailedPrecondition
from modelyard.evaluator.domain.evaluation import TEST
from modelyard.evaluator.domain.pairing import Answers
from modelyard.evaluator.domain.scores import DetectedExample, ExampleScore, FoundBox
from modelyard.evaluator.ports import Chances, Numbers
from modelyard.formats.bundle import BundleCard, open_bundle

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


_PROBABILITY = "probability:"
MOST_BOXES = 200


class StoredPredictions:
    """ports.Predictions: the Parquet file that the worker wrote."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def test_answers(self, evaluation: str, predictions: Blob) -> Answers:
        """See ports.Predictions."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = ["example_id", "label", "prediction"]
        path = self._store.path(predictions)
        try:
            columns += [name for name in pq.read_schema(path).names if name == "score"]
            table = pq.read_table(path, columns=columns, filters=[("usage", "=", TEST)])
        except (pa.ArrowInvalid, KeyError) as error:
            message = f"the predictions of {evaluation} cannot be read ({error!r:.200}); evaluate the export again"
            raise FailedPrecondition("NO_PREDICTIONS", message, evaluation=evaluation) from error
        ids = tuple(table["example_id"].to_pylist())
        scores = np.asarray(table["score"].to_numpy(), np.float64) if "score" in table.column_names else None
        return Answers(evaluation, ids, _values(table["label"]), _values(table["prediction"]), scores)

    def page(
        self,
        evaluation: str,
        predictions: Blob,
        chosen: tuple[str, str, str],
        start: int,
        count: int,
        ids: Collection[str] = (),
    ) -> tuple[Sequence[ExampleScore], int]:
        """See ports.Predictions."""
        table, (usage, label, prediction) = self._table(evaluation, predictions, chosen[0]), chosen
        if ids:
            import pyarrow as pa
            import pyarrow.compute as pc

            table = table.filter(pc.is_in(table["example_id"], value_set=pa.array(sorted(ids), pa.string())))
        boxes = _boxes(table) if ids else {}
        labels, said = (np.array([_text(value) for value in table[name].to_pylist()], object) for name in ("label", "prediction"))
        rows = np.flatnonzero(((labels == label) | (not label)) & ((said == prediction) | (not prediction)))
        found = _chances(table)
        sure = found.chances.max(axis=1) if found is not None else np.zeros(len(labels), np.float32)
        rows = rows[np.argsort(-sure[rows], kind="stable")]
        shown = table["example_id"]
        numbers = _numbers(table)

        def score(row: int) -> ExampleScore:
            chance = 0.0
            if found is not None and labels[row] in found.classes:
                chance = float(found.chances[row, found.classes.index(labels[row])])
            loss = -float(np.log(max(chance, 1e-12))) if found is not None else 0.0
            if numbers is not None:
                loss = float(abs(numbers.predictions[row] - numbers.labels[row]))
            said_of = (shown[row].as_py(), usage, labels[row], said[row], float(sure[row]), loss)
            return DetectedExample(*said_of, boxes[row]) if row in boxes else ExampleScore(*said_of)

        return [score(int(row)) for row in rows[start : start + count]], len(rows)

    def numbers(self, evaluation: str, predictions: Blob, usage: str) -> Numbers | None:
        """See ports.Predictions."""
        return _numbers(self._table(evaluation, predictions, usage))

    def chances(self, evaluation: str, predictions: Blob, usage: str) -> Chances | None:
        """See ports.Predictions."""
        return _chances(self._table(evaluation, predictions, usage))

    def _table(self, evaluation: str, predictions: Blob, usage: str) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(self._store.path(predictions), filters=[("usage", "=", usage)])
            return table if {"label", "prediction"} <= set(table.column_names) else table.slice(0, 0)
        except (pa.ArrowInvalid, KeyError) as error:
            message = f"the predictions of {evaluation} cannot be read ({error!r:.200}); evaluate the export again"
            raise FailedPrecondition("NO_PREDICTIONS", message, evaluation=evaluation) from error


def _chances(table: pa.Table) -> Chances | None:
    names = [name for name in table.column_names if name.startswith(_PROBABILITY)]
    if not names:
        return None
    columns = [table[name].to_numpy() for name in names]
    classes = tuple(name.removeprefix(_PROBABILITY) for name in names)
    return Chances(_values(table["label"]).astype(object), np.stack(columns, axis=1).astype(np.float32), classes)


def _numbers(table: pa.Table) -> Numbers | None:
    """What a regression said; None where labels or predictions are no numbers."""
    if not {"label", "prediction"} <= set(table.column_names):
        return None
    labels, predictions = _values(table["label"]), _values(table["prediction"])
    if labels.dtype != np.float64 or predictions.dtype != np.float64:
        return None
    return Numbers(tuple(table["example_id"].to_pylist()), labels.astype(np.float64), predictions.astype(np.float64))


def _boxes(table: pa.Table) -> dict[int, tuple[FoundBox, ...]]:
    """The boxes of each row, the surest first; nothing for other tasks."""
    if not {"boxes", "scores", "classes"} <= set(table.column_names):
        return {}
    found = {}
    columns = (table[name].to_pylist() for name in ("boxes", "scores", "classes"))
    for row, (flat, scores, classes) in enumerate(zip(*columns, strict=True)):
        order = sorted(range(len(scores)), key=lambda at: -scores[at])[:MOST_BOXES]
        found[row] = tuple(
            FoundBox(classes[at], (flat[4 * at], flat[4 * at + 1], flat[4 * at + 2], flat[4 * at + 3]), scores[at])
            for at in order
        )
    return found


def _text(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _values(column: pa.ChunkedArray) -> NDArray[np.float64] | NDArray[np.object_]:
    """Numbers as float64, text as objects."""
    values = column.to_numpy()
    return np.asarray(values, dtype=np.float64) if values.dtype.kind in "fiu" else np.asarray(values, dtype=object)


class StoredBundles:
    """ports.Bundles."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def read(self, artifact: Blob) -> tuple[BundleCard, int]:
        """See ports.Bundles."""
        bundle = open_bundle(self._store.path(artifact))
        return bundle.card, bundle.model_size
