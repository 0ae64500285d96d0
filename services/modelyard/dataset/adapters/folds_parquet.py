"""Folding (see ports) over manifests in the artifact store: one small file of folds, and a descriptor for each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.core.artifacts import ArtifactStore
from modelyard.core.errors import FailedPrecondition
from modelyard.dataset.domain.folds import NO_FOLD, FoldPlan, draw_folds, fold_notes
from modelyard.dataset.domain.records import VersionResult
from modelyard.dataset.ports import MadeFolds
from modelyard.formats import dataset as files

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from modelyard.dataset.domain.belonging import Column

    Ints = npt.NDArray[np.int64]


class ParquetFolding:
    """Reads and writes in the artifact store."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def make(self, version: VersionResult, plan: FoldPlan, group_by: str) -> MadeFolds:
        """Shares the train and validation examples of a version out; see ports."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        from modelyard.dataset.domain.belonging import strata_of

        store, whole = self._store, version.descriptor
        manifest = files.load_manifest(store, whole)
        learned = np.asarray(pc.not_equal(manifest["usage"], files.TEST).to_numpy(), dtype=np.bool_)
        rows = np.flatnonzero(learned)
        near = self._near(version, manifest)[rows]
        shown = manifest.take(pa.array(rows))
        if not shown.num_rows:
            raise FailedPrecondition("TOO_FEW_EXAMPLES", "the version has no train or validation examples", field="folds.k")
        strata, _ = strata_of(shown, whole, self._targets(whole, shown))
        groups = self._groups(whole, shown, near, group_by)
        drawn = draw_folds(strata, groups, plan)
        view, place = (whole, rows) if version.training is None else (version.training, np.arange(len(rows)))
        size = manifest.num_rows if version.training is None else len(rows)
        columns: dict[str, pa.Array] = {"example_id": self._ids(view)}
        for repeat in range(plan.repeats):
            folds = np.full(size, NO_FOLD, np.int16)
            folds[place] = drawn[repeat]
            columns[files.FOLD.format(repeat=repeat)] = pa.array(folds)
        with tempfile.TemporaryDirectory() as folder:
            path = files.write_parquet(pa.table(columns), Path(folder) / "folds")
            assignment = store.put_file(path)
        descriptors = []
        for repeat in range(plan.repeats):
            for fold in range(plan.k):
                counts = self._counts(shown, drawn[repeat] == fold, view)
                seen = replace(view, folds=assignment, repeat=repeat, fold=fold, counts=counts)
                descriptors.append(store.put_bytes(files.to_json(seen)))
        return MadeFolds(assignment, tuple(descriptors), len(rows), tuple(self._notes(strata, whole, plan, group_by)))

    def _ids(self, view: files.DatasetDescriptor) -> pa.ChunkedArray:
        return files.load_manifest(self._store, view, ["example_id"])["example_id"]

    def _near(self, version: VersionResult, manifest: pa.Table) -> Ints:
        """Equal for near duplicates, as far as the publication found them, else for equal contents: int64 [N]."""
        import numpy as np

        from modelyard.dataset.domain.near import equal_groups

        if version.near is None:
            return equal_groups(manifest["sha256"].to_pylist())
        groups = files.read_parquet(self._store.path(version.near), ["group"])["group"].to_numpy()
        return np.asarray(groups, dtype=np.int64)[files.identity_rows(self._store, version.descriptor, manifest.num_rows)]

    def _groups(self, whole: files.DatasetDescriptor, shown: pa.Table, near: Ints, group_by: str) -> Ints:
        from modelyard.dataset.domain.belonging import groups_of
        from modelyard.dataset.domain.group_split import joined_groups

        if not group_by:
            return near
        return joined_groups(groups_of(group_by, self._column(whole), whole, shown), near)

    def _column(self, whole: files.DatasetDescriptor) -> Column:
        def column(name: str) -> pa.ChunkedArray:
            if whole.table is None:
                raise AssertionError("only a table has columns")
            return files.read_parquet(self._store.path(whole.table), [name])[name]

        return column

    def _targets(self, whole: files.DatasetDescriptor, shown: pa.Table) -> Callable[[], npt.NDArray[np.float64]]:
        import numpy as np

        def targets() -> npt.NDArray[np.float64]:
            values = self._column(whole)(whole.target).take(shown["row"])
            return np.asarray(values.to_numpy(), dtype=np.float64)

        return targets

    @staticmethod
    def _counts(shown: pa.Table, validated: npt.NDArray[np.bool_], view: files.DatasetDescriptor) -> dict[str, files.UsageCount]:
        """Of train and validation as a fold has them; of test as they were."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        counts = dict(view.counts)
        single = bool(view.classes) and not shown["label"].null_count
        numbers = np.empty(0, np.int64)
        if single:
            index = pc.index_in(shown["label"], value_set=pa.array(view.classes, pa.string()))
            numbers = np.asarray(index.to_numpy(), dtype=np.int64)
        for usage, chosen in ((files.TRAIN, ~validated), (files.VALIDATION, validated)):
            by_class = tuple(np.bincount(numbers[chosen], minlength=len(view.classes)).tolist()) if single else ()
            counts[usage] = files.UsageCount(int(chosen.sum()), by_class)
        return counts

    @staticmethod
    def _notes(
        strata: npt.NDArray[np.int64] | npt.NDArray[np.bool_], whole: files.DatasetDescriptor, plan: FoldPlan, group_by: str
    ) -> list[str]:
        import numpy as np

        kept = f'groups by "{group_by}" and duplicates' if group_by else "duplicates"
        times = "once" if plan.repeats == 1 else f"{plan.repeats} times"
        spread = "classes spread evenly, " if whole.classes else ""
        notes = [f"{plan.k} folds, drawn {times} from seed {plan.seed}; {spread}{kept} kept together."]
        if not whole.classes:
            return notes
        counts = strata.sum(axis=0) if strata.ndim == 2 else np.bincount(strata, minlength=len(whole.classes))
        return notes + fold_notes(counts.astype(np.int64), whole.classes, plan.k)
