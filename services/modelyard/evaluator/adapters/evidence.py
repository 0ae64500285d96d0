"""What lies in the artifact store about an evaluation: the predictions, and the bundle itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.errors import FailedPrecondition
from modelyard.evaluator.domain.evaluation import TEST
from modelyard.evaluator.domain.pairing import Answers
from modelyard.evaluator.domain.scores import ExampleScore
from modelyard.evaluator.ports import Chances
from modelyard.formats.bundle import BundleCard, open_bundle

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


_PROBABILITY = "probability:"


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
        self, evaluation: str, predictions: Blob, chosen: tuple[str, str, str], start: int, count: int
    ) -> tuple[Sequence[ExampleScore], int]:
        """See ports.Predictions."""
        table, (usage, label, prediction) = self._table(evaluation, predictions, chosen[0]), chosen
        labels, said = (np.array([_text(value) for value in table[name].to_pylist()], object) for name in ("label", "prediction"))
        rows = np.flatnonzero(((labels == label) | (not label)) & ((said == prediction) | (not prediction)))
        found = _chances(table)
        sure = found.chances.max(axis=1) if found is not None else np.zeros(len(labels), np.float32)
        rows = rows[np.argsort(-sure[rows], kind="stable")]
        ids = table["example_id"]

        def score(row: int) -> ExampleScore:
            chance = 0.0
            if found is not None and labels[row] in found.classes:
                chance = float(found.chances[row, found.classes.index(labels[row])])
            loss = -float(np.log(max(chance, 1e-12))) if found is not None else 0.0
            return ExampleScore(ids[row].as_py(), usage, labels[row], said[row], float(sure[row]), loss)

        return [score(int(row)) for row in rows[start : start + count]], len(rows)

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
