"""Runs exported bytes over a dataset version and scores their answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.errors import FailedPrecondition
from modelyard.evaluator.domain.evaluation import TEST, TRAIN, EvaluationResult, EvaluationSpec
from modelyard.evaluator.domain.slices import PICTURE_COLUMNS, Slices, check_columns, cut
from modelyard.evaluator.worker.answers import Answers, Outputs, TaskScoring
from modelyard.evaluator.worker.tasks import scoring_of
from modelyard.formats.bundle import open_bundle
from modelyard.formats.dataset import IMAGE, NUMERIC, SERIES, DatasetReader, available_cpus, open_dataset
from modelyard.formats.series import fitted_series
from modelyard.runtime.model import RunnableModel, load_model
from modelyard.statistics.intervals import Ints

if TYPE_CHECKING:
    import pyarrow as pa

Report = Callable[[str, int, int], None]
"""Takes the stage, the examples done and their total; may raise to end the evaluation."""

PICTURES_AT_ONCE: Final = 64
ROWS_AT_ONCE: Final = 4096
SEED: Final = 0
_MISSING_TEXT: Final = ""


def evaluate(spec: EvaluationSpec, store: ArtifactStore, workdir: Path, report: Report) -> EvaluationResult:
    """Scores the artifact on each usage that holds examples.

    Raises FailedPrecondition MISSING_COLUMNS, CLASSES_DIFFER, NO_EXAMPLES, NOT_FINITE, WRONG_OUTPUT, TASK_NOT_SCORED or
    RUNTIME_NOT_INSTALLED, InvalidArgument INVALID_BUNDLE or UNKNOWN_SLICE_COLUMN, DataLoss.
    """
    scoring = scoring_of(spec.task)
    with open_dataset(store, spec.descriptor) as reader:
        columns = _slice_columns(spec, reader)
        model = load_model(open_bundle(store.path(spec.artifact)), threads=available_cpus())
        with closing(model):
            _check_columns(model, reader)
            scoring.check(model.card, reader)
            answers = list(_answer_all(model, scoring, reader, _chosen(spec, reader, scoring.train_cap), report))
        found = scoring.judge(model.card, reader, answers, columns)
        predictions = _store_predictions((scoring.rows(model.card, reader, answer) for answer in answers), store, workdir)
    return EvaluationResult(
        found.results,
        predictions,
        spec.dataset_digest,
        spec.artifact.sha256,
        slices=found.slices,
        worst_examples=found.worst_examples,
        label_suspects=found.label_suspects,
        train_gaps=found.train_gaps,
        suggested_threshold=found.suggested_threshold,
    )


def _chosen(spec: EvaluationSpec, reader: DatasetReader, train_cap: int) -> dict[str, Ints]:
    """Which examples of each usage to score."""
    chosen = {usage: _positions(reader, usage, train_cap) for usage in spec.usages}
    if not any(len(positions) for positions in chosen.values()):
        asked = ", ".join(spec.usages)
        message = f"{spec.dataset_version} holds no examples to score as {asked}"
        raise FailedPrecondition("NO_EXAMPLES", message, dataset_version=spec.dataset_version, usages=asked)
    return chosen


def _slice_columns(spec: EvaluationSpec, reader: DatasetReader) -> list[tuple[str, Slices]]:
    """The slices of the test usage by each column asked for."""
    described = reader.descriptor
    numeric = {column.name: column.type == NUMERIC for column in described.columns} or dict.fromkeys(PICTURE_COLUMNS, True)
    check_columns(spec.slice_columns, list(numeric), spec.dataset_version)
    if not spec.slice_columns:
        return []
    values: Mapping[str, Any] = reader.picture_facts(TEST) if described.kind == IMAGE else _cells(spec.slice_columns, reader)
    return [(name, cut(values[name], numeric[name])) for name in spec.slice_columns]


def _cells(columns: Sequence[str], reader: DatasetReader) -> dict[str, list[Any]]:
    table = reader.table(TEST, columns=columns)
    return {name: table[name].to_pylist() for name in columns}


def _positions(reader: DatasetReader, usage: str, train_cap: int) -> Ints:
    """Which examples of a usage to score, in its own order: all, but of train a seeded draw of `train_cap`."""
    count = len(reader.indices(usage))
    if usage != TRAIN or count <= train_cap:
        return np.arange(count, dtype=np.int64)
    drawn = np.random.default_rng(SEED).choice(count, train_cap, replace=False)
    return np.sort(drawn).astype(np.int64)


def _answer_all(
    model: RunnableModel, scoring: TaskScoring, reader: DatasetReader, chosen: Mapping[str, Ints], report: Report
) -> Iterator[Answers]:
    total, done = sum(len(positions) for positions in chosen.values()), 0
    for usage, positions in chosen.items():
        outputs = []
        asked = scoring.batches(model.card, reader, usage, positions) if scoring.batches else None
        for inputs in asked if asked is not None else _batches(model, reader, usage, positions):
            report(f"score {usage}", done, total)
            outputs.append(_finite(scoring.read(model.card, model.run(inputs)), usage))
            done += len(outputs[-1]) if asked is None else 0
        done += len(positions) if asked is not None else 0
        if outputs:
            yield Answers(usage, positions, np.concatenate(outputs))
    report("figures", done, total)


def _batches(model: RunnableModel, reader: DatasetReader, usage: str, positions: Ints) -> Iterator[dict[str, NDArray[Any]]]:
    picture = model.card.picture
    if reader.descriptor.kind == SERIES:
        yield from _series_batches(model, reader, usage, positions)
        return
    if picture is None:
        yield from _row_batches(model, reader, usage, positions)
        return
    indices = reader.indices(usage)[positions]
    for start in range(0, len(indices), PICTURES_AT_ONCE):
        taken = indices[start : start + PICTURES_AT_ONCE]
        yield {"image": reader.decode(taken, picture.height, picture.width, picture.channels)}


def _series_batches(
    model: RunnableModel, reader: DatasetReader, usage: str, positions: Ints
) -> Iterator[dict[str, NDArray[Any]]]:
    spec = model.card.inputs[0]
    for start in range(0, len(positions), PICTURES_AT_ONCE):
        yield {spec.name: fitted_series(reader, usage, positions[start : start + PICTURES_AT_ONCE], spec.shape[1])}


def _row_batches(model: RunnableModel, reader: DatasetReader, usage: str, positions: Ints) -> Iterator[dict[str, NDArray[Any]]]:
    if not len(positions):
        return
    table = reader.table(usage, columns=[column.name for column in model.card.columns]).take(positions)
    parts: dict[str, list[NDArray[Any]]] = {}
    for column in model.card.columns:
        parts.setdefault(column.input, []).append(column_values(table[column.name], column.type))
    columns = {name: np.concatenate(values, axis=1) for name, values in parts.items()}  # several columns may be one vector
    for start in range(0, len(positions), ROWS_AT_ONCE):
        yield {name: values[start : start + ROWS_AT_ONCE] for name, values in columns.items()}


def column_values(values: pa.ChunkedArray, kind: str) -> NDArray[Any]:
    """A column as a model takes it, [N, 1]: numbers as float32 with NaN for missing, text as str with "" for missing."""
    if kind == "numeric":
        return np.asarray(values.cast("float64").to_numpy(), dtype=np.float32).reshape(-1, 1)
    text = np.empty((len(values), 1), dtype=object)
    text[:, 0] = [_MISSING_TEXT if value is None else str(value) for value in values.to_pylist()]
    return text


def _finite(outputs: Outputs, usage: str) -> Outputs:
    wrong = int((~np.isfinite(outputs)).reshape(len(outputs), -1).any(axis=1).sum())
    if wrong:
        message = f"the model answers {wrong} of {len(outputs)} examples of {usage} with numbers that are not finite"
        raise FailedPrecondition("NOT_FINITE", message, usage=usage, examples=wrong)
    return outputs


def _check_columns(model: RunnableModel, reader: DatasetReader) -> None:
    present = {column.name for column in reader.descriptor.columns}
    missing = [column.name for column in model.card.columns if column.name not in present]
    if missing:
        names = ", ".join(missing[:20])
        message = f"the dataset version has no column {names}, which the model needs"
        raise FailedPrecondition("MISSING_COLUMNS", message, columns=names)


def _store_predictions(tables: Iterator[pa.Table], store: ArtifactStore, workdir: Path) -> Blob:
    """One usage after the other, so that no more than one of their tables is in memory."""
    import pyarrow.parquet as pq

    path, first = workdir / "predictions.parquet", next(tables)
    with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table)
    return store.put_file(path)
