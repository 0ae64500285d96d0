"""What the training data and the model's answers looked like, put into a bundle once it is made (decision 0019).

Inputs are those of a drawn sample of the training usage. Answers are those of the exported bytes to examples that the model did
not learn from, where there are enough: of what it has learned it is surer than it will ever be of what callers send.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.formats.bundle import Bundle, BundleCard, add_statistics, open_bundle
from modelyard.formats.dataset import AUDIO, IMAGE, TABLE, TEST, TRAIN, VALIDATION, DatasetReader
from modelyard.formats.observed_features import Observed, file_features, observed_inputs, observed_outputs
from modelyard.formats.training_statistics import TrainingStatistics, statistics_of
from modelyard.runtime.model import load_model

Array = NDArray[Any]
Positions = NDArray[np.int64]

MOST_ROWS: Final = 4000
LEAST_PICTURES: Final = 500
MOST_PICTURES: Final = 2000
PIXELS: Final = 2000 * 64 * 64
"""Pictures are as many as have about so many pixels together, so that a large model does not hold up its export."""
LEAST_EXAMPLES: Final = 50
"""With fewer nothing can be said of a distribution, and the bundle holds no statistics."""
LEAST_HELD_OUT: Final = 200
AT_ONCE: Final = 64
SEED: Final = 0


def write_statistics(path: Path, reader: DatasetReader) -> BundleCard:
    """Adds the statistics to the bundle at `path`; its card. Without enough training pictures or rows it stays as it is."""
    bundle = open_bundle(path)
    if reader.descriptor.kind not in (IMAGE, AUDIO, TABLE) or len(reader.indices(TRAIN)) < LEAST_EXAMPLES:
        return bundle.card
    return add_statistics(path, training_statistics(bundle, reader))


def training_statistics(bundle: Bundle, reader: DatasetReader) -> TrainingStatistics:
    """The statistics of a bundle's model; the same draw for the same dataset version."""
    most = sample_size(bundle.card)
    taken = _drawn(reader, (TRAIN,), most)
    held_out = sum(len(reader.indices(usage)) for usage in (VALIDATION, TEST)) >= LEAST_HELD_OUT
    asked = _drawn(reader, (VALIDATION, TEST), most) if held_out else taken
    inputs = [observed_inputs(bundle.card, part) for part in _batches(bundle.card, reader, taken)]
    answers = list(_answers(bundle, reader, asked))
    features = statistics_of({**_together(inputs), **_files(reader, taken), **_together(answers)})
    return TrainingStatistics(_count(taken), _count(asked), features)


def sample_size(card: BundleCard) -> int:
    """Most examples that are drawn."""
    if card.picture is None:
        return MOST_ROWS
    fitting = PIXELS // (card.picture.height * card.picture.width)
    return max(LEAST_PICTURES, min(MOST_PICTURES, fitting))


def _drawn(reader: DatasetReader, usages: tuple[str, ...], most: int) -> dict[str, Positions]:
    """By usage, places among its examples, drawn with a fixed seed; each usage its share."""
    random = np.random.default_rng(SEED)
    counts = {usage: len(reader.indices(usage)) for usage in usages}
    wanted = min(1.0, most / max(sum(counts.values()), 1))
    return {usage: np.sort(random.permutation(count)[: round(wanted * count)]) for usage, count in counts.items()}


def _count(drawn: dict[str, Positions]) -> int:
    return sum(len(rows) for rows in drawn.values())


def _batches(card: BundleCard, reader: DatasetReader, drawn: dict[str, Positions]) -> Iterator[dict[str, Array]]:
    """The drawn examples as the model's inputs, AT_ONCE at a time."""
    for usage, rows in drawn.items():
        if reader.descriptor.kind in (IMAGE, AUDIO):
            yield from _pictures(card, reader, reader.indices(usage)[rows])
        elif len(rows):
            yield from _rows(card, reader, usage, rows)


def _pictures(card: BundleCard, reader: DatasetReader, positions: Positions) -> Iterator[dict[str, Array]]:
    if card.picture is None:
        return
    size = (card.picture.height, card.picture.width, card.picture.channels)
    for start in range(0, len(positions), AT_ONCE):
        yield {"image": reader.decode(positions[start : start + AT_ONCE], *size)}


def _rows(card: BundleCard, reader: DatasetReader, usage: str, rows: Positions) -> Iterator[dict[str, Array]]:
    from modelyard.recipes.build_tabular import columns_of

    names = [column.name for column in card.columns]
    columns = {name: values[rows] for name, values in columns_of(reader.table(usage, columns=names), names).items()}
    inputs: dict[str, Array] = {}
    for spec in card.inputs:
        parts = [columns[column.name] for column in card.columns if column.input == spec.name]
        inputs[spec.name] = parts[0][:, None] if len(parts) == 1 else np.stack(parts, axis=1).astype(np.float32)
    for start in range(0, len(rows), AT_ONCE):
        yield {name: values[start : start + AT_ONCE] for name, values in inputs.items()}


def _answers(bundle: Bundle, reader: DatasetReader, drawn: dict[str, Positions]) -> Iterator[Observed]:
    """What the exported bytes answer, in the runtime that will serve them."""
    model = load_model(bundle)
    try:
        for part in _batches(bundle.card, reader, drawn):
            yield observed_outputs(bundle.card, model.run(part))
    finally:
        model.close()


def _files(reader: DatasetReader, drawn: dict[str, Positions]) -> Observed:
    """The sizes of picture files as they came."""
    if reader.descriptor.kind != IMAGE:
        return {}
    facts = {usage: reader.picture_facts(usage) for usage in drawn}
    sizes = [(facts[usage]["width"][row], facts[usage]["height"][row]) for usage, rows in drawn.items() for row in rows.tolist()]
    return file_features([width for width, _ in sizes], [height for _, height in sizes])


def _together(parts: list[Observed]) -> Observed:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]} if parts else {}
