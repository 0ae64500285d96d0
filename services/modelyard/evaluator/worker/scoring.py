"""Runs exported bytes over a dataset version and scores their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.errors import FailedPrecondition
from modelyard.evaluator.domain import metrics
from modelyard.evaluator.domain.evaluation import TRAIN, TRAIN_CAP, EvaluationResult, EvaluationSpec
from modelyard.evaluator.domain.scores import UsageResult
from modelyard.evaluator.domain.statistics import Floats, Ints
from modelyard.formats.bundle import open_bundle
from modelyard.formats.dataset import DatasetReader, available_cpus, open_dataset
from modelyard.runtime.inputs import PROBABILITIES
from modelyard.runtime.model import RunnableModel, load_model

if TYPE_CHECKING:
    import pyarrow as pa

Report = Callable[[str, int, int], None]
"""Takes the stage, the examples done and their total; may raise to end the evaluation."""

PICTURES_AT_ONCE: Final = 64
ROWS_AT_ONCE: Final = 4096
SEED: Final = 0
LARGEST_CONFUSION: Final = 200
"""A confusion matrix of more classes than this stays out of the result: the predictions hold the same, and more compactly."""
_MISSING_TEXT: Final = ""


@dataclass(frozen=True)
class Answers:
    """What the model said of examples of a usage: positions in the usage's own order, and probabilities [N, K] or values [N]."""

    usage: str
    positions: Ints
    outputs: Floats


def evaluate(spec: EvaluationSpec, store: ArtifactStore, workdir: Path, report: Report) -> EvaluationResult:
    """Scores the artifact on each usage that holds examples.

    Raises FailedPrecondition MISSING_COLUMNS, NO_EXAMPLES or NOT_FINITE, InvalidArgument INVALID_BUNDLE, DataLoss.
    """
    model = load_model(open_bundle(store.path(spec.artifact)), threads=available_cpus())
    with open_dataset(store, spec.descriptor) as reader:
        _check_columns(model, reader)
        chosen = {usage: _positions(reader, usage) for usage in spec.usages}
        if not any(len(positions) for positions in chosen.values()):
            asked = ", ".join(spec.usages)
            message = f"{spec.dataset_version} holds no examples to score as {asked}"
            raise FailedPrecondition("NO_EXAMPLES", message, dataset_version=spec.dataset_version, usages=asked)
        answers = list(_answer_all(model, reader, chosen, report))
        classes = all_classes(model.card.classes, reader.descriptor.classes)
        results = tuple(_score(answer, reader, model.card.classes, classes) for answer in answers)
        tables = [_prediction_rows(answer, reader, model.card.classes) for answer in answers]
    predictions = _store_predictions(tables, store, workdir)
    return EvaluationResult(results, predictions, spec.dataset_digest, spec.artifact.sha256)


def all_classes(known: Sequence[str], occurring: Sequence[str]) -> tuple[str, ...]:
    """The model's classes, then those of the data that it does not know: of these no example can be right."""
    return (*known, *(name for name in occurring if name not in known))


def _positions(reader: DatasetReader, usage: str) -> Ints:
    """Which examples of a usage to score, in its own order: all, but of train a seeded draw of TRAIN_CAP."""
    count = len(reader.indices(usage))
    if usage != TRAIN or count <= TRAIN_CAP:
        return np.arange(count, dtype=np.int64)
    drawn = np.random.default_rng(SEED).choice(count, TRAIN_CAP, replace=False)
    return np.sort(drawn).astype(np.int64)


def _answer_all(model: RunnableModel, reader: DatasetReader, chosen: dict[str, Ints], report: Report) -> Iterator[Answers]:
    total, done = sum(len(positions) for positions in chosen.values()), 0
    for usage, positions in chosen.items():
        outputs = []
        for inputs in _batches(model, reader, usage, positions):
            report(f"score {usage}", done, total)
            outputs.append(_finite(_output(model, inputs), usage))
            done += len(outputs[-1])
        if outputs:
            yield Answers(usage, positions, np.concatenate(outputs))
    report("figures", done, total)


def _batches(model: RunnableModel, reader: DatasetReader, usage: str, positions: Ints) -> Iterator[dict[str, NDArray[Any]]]:
    picture = model.card.picture
    if picture is None:
        yield from _row_batches(model, reader, usage, positions)
        return
    indices = reader.indices(usage)[positions]
    for start in range(0, len(indices), PICTURES_AT_ONCE):
        taken = indices[start : start + PICTURES_AT_ONCE]
        yield {"image": reader.decode(taken, picture.height, picture.width, picture.channels)}


def _row_batches(model: RunnableModel, reader: DatasetReader, usage: str, positions: Ints) -> Iterator[dict[str, NDArray[Any]]]:
    if not len(positions):
        return
    table = reader.table(usage, columns=[column.name for column in model.card.columns]).take(positions)
    columns = {column.input: column_values(table[column.name], column.type) for column in model.card.columns}
    for start in range(0, len(positions), ROWS_AT_ONCE):
        yield {name: values[start : start + ROWS_AT_ONCE] for name, values in columns.items()}


def column_values(values: pa.ChunkedArray, kind: str) -> NDArray[Any]:
    """A column as a model takes it, [N, 1]: numbers as float32 with NaN for missing, text as str with "" for missing."""
    if kind == "numeric":
        return np.asarray(values.cast("float64").to_numpy(), dtype=np.float32).reshape(-1, 1)
    text = np.empty((len(values), 1), dtype=object)
    text[:, 0] = [_MISSING_TEXT if value is None else str(value) for value in values.to_pylist()]
    return text


def _output(model: RunnableModel, inputs: dict[str, NDArray[Any]]) -> Floats:
    answers = model.run(inputs)
    if model.card.classes:
        return np.asarray(answers[PROBABILITIES], dtype=np.float64)
    return np.asarray(answers[model.card.outputs[0].name], dtype=np.float64).reshape(-1)


def _finite(outputs: Floats, usage: str) -> Floats:
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


def _score(answer: Answers, reader: DatasetReader, known: Sequence[str], classes: Sequence[str]) -> UsageResult:
    labels, training = reader.labels(answer.usage)[answer.positions], reader.labels(TRAIN)
    if not known:
        mean = float((training if len(training) else labels).mean())
        return metrics.against_mean(answer.usage, labels, answer.outputs, mean)
    to_ours = np.array([classes.index(name) for name in reader.descriptor.classes], dtype=np.int64)
    truth, learned = to_ours[labels], to_ours[training] if len(training) else to_ours[labels]
    probabilities = np.zeros((len(truth), len(classes)))
    probabilities[:, : len(known)] = answer.outputs
    return _smaller(
        metrics.against_majority(answer.usage, truth, probabilities, classes, metrics.class_shares(learned, len(classes)))
    )


def _smaller(result: UsageResult) -> UsageResult:
    """Without what nobody reads: the baseline's classes, and a confusion matrix too large for a document."""
    score = replace(result.score, confusion=()) if len(result.score.classes) > LARGEST_CONFUSION else result.score
    return replace(result, score=score, baseline=replace(result.baseline, classes=(), confusion=()))


def _prediction_rows(answer: Answers, reader: DatasetReader, classes: Sequence[str]) -> pa.Table:
    """Columns example_id, usage, label, prediction; of a classifier then `probability:{class}` (float32) by class."""
    import pyarrow as pa

    ids, labels = reader.example_ids(answer.usage), reader.labels(answer.usage)[answer.positions]
    rows: dict[str, Any] = {
        "example_id": pa.array([ids[position] for position in answer.positions.tolist()], pa.string()),
        "usage": pa.array([answer.usage] * len(labels), pa.string()),
    }
    if not classes:
        return pa.table({**rows, "label": labels, "prediction": answer.outputs})
    rows["label"] = pa.array([reader.descriptor.classes[label] for label in labels.tolist()], pa.string())
    rows["prediction"] = pa.array([classes[index] for index in answer.outputs.argmax(axis=1).tolist()], pa.string())
    rows |= {f"probability:{name}": answer.outputs[:, i].astype(np.float32) for i, name in enumerate(classes)}
    return pa.table(rows)


def _store_predictions(tables: Sequence[pa.Table], store: ArtifactStore, workdir: Path) -> Blob:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = workdir / "predictions.parquet"
    pq.write_table(pa.concat_tables(tables), path, compression="zstd")
    with closing(path.open("rb")) as stream:
        return store.put(stream)
