"""What lies in the artifact store about an evaluation: the predictions, and the bundle itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.errors import FailedPrecondition
from modelyard.evaluator.domain.evaluation import TEST
from modelyard.evaluator.domain.pairing import Answers
from modelyard.formats.bundle import BundleCard, open_bundle

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


class StoredPredictions:
    """ports.Predictions: the Parquet file that the worker wrote."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def test_answers(self, evaluation: str, predictions: Blob) -> Answers:
        """See ports.Predictions."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = ["example_id", "label", "prediction"]
        try:
            table = pq.read_table(self._store.path(predictions), columns=columns, filters=[("usage", "=", TEST)])
        except (pa.ArrowInvalid, KeyError) as error:
            message = f"the predictions of {evaluation} cannot be read ({error!r:.200}); evaluate the export again"
            raise FailedPrecondition("NO_PREDICTIONS", message, evaluation=evaluation) from error
        return Answers(evaluation, tuple(table["example_id"].to_pylist()), _values(table["label"]), _values(table["prediction"]))


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
