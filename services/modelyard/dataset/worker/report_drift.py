"""How the examples of one version differ from those of another: what is compared, by kind of data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelyard.core.artifacts import ArtifactStore
from modelyard.dataset.domain.drift import Feature, Values, drift_findings
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.example_pass import look_at_each, spans_of
from modelyard.dataset.worker.report_marks import mask_counts, objects_of
from modelyard.dataset.worker.report_series import measure_series
from modelyard.dataset.worker.report_sounds import measure_sounds
from modelyard.dataset.worker.report_tables import rows_of
from modelyard.dataset.worker.stored import read_manifest
from modelyard.formats import dataset as files
from modelyard.formats.observed_features import picture_features
from modelyard.formats.pictures import decode

SAMPLE = 4000
"""Most examples of each version that are read; labels, columns and sizes are compared over all."""

LEAST_ADDED = 30
"""With so many new examples, these are compared with the base on their own: among many old ones they would not show."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What is known of the examples of a version, by the name of the feature: values, and what it is, in words."""

    values: dict[str, Values] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, values: Values, words: str, column: str = "") -> None:
        """Takes a feature."""
        self.values[name], self.words[name], self.columns[name] = values, words, column


def check_drift(
    store: ArtifactStore, base: files.DatasetDescriptor, content: files.DatasetDescriptor, base_name: str, name: str, work: Work
) -> tuple[list[Finding], tuple[str, ...], int]:
    """Findings of kind DRIFT, what was compared, in sentences, and how many examples the newer side has. Raises Cancelled."""
    before, after = read_manifest(store, base), read_manifest(store, content)
    old = _seen(store, base, before, work, (0.0, 0.45))
    new = _seen(store, content, after, work, (0.45, 0.9))
    features = list(_paired(old, new))
    short = [each.rpartition("/")[2] for each in (name, base_name)]
    found = drift_findings(features, f"{short[0]} and {short[1]}")
    notes = [
        f"{before.num_rows} examples of {short[1]} and {after.num_rows} of {short[0]} were compared by {len(features)} features."
    ]
    known = set(before["example_id"].to_pylist())
    added = np.array([id_ not in known for id_ in after["example_id"].to_pylist()], np.bool_)
    if LEAST_ADDED <= added.sum() < len(added):
        part = after.filter(pa.array(added))
        fresh = list(_paired(old, _seen(store, content, part, work, (0.9, 1.0))))
        told = {(each.column, each.message.partition(" differs ")[0]) for each in found}
        more = drift_findings(fresh, f"the {len(part)} examples that {short[0]} has anew and {short[1]}")
        found += [each for each in more if (each.column, each.message.partition(" differs ")[0]) not in told]
        notes.append(f"The {len(part)} new examples were compared with {short[1]} on their own, too.")
    return found, tuple(notes), after.num_rows


def _paired(before: Seen, after: Seen) -> Iterator[Feature]:
    """Features that both have, of one type."""
    for name, old in before.values.items():
        new = after.values.get(name)
        if new is not None and isinstance(old, np.ndarray) == isinstance(new, np.ndarray):
            yield Feature(name, old, new, before.columns[name], before.words[name])


@dataclass(frozen=True)
class _Reading:
    """One side of the comparison: where its content is, its rows, those that were drawn to be read, and the share of the job that
    reading them is."""

    store: ArtifactStore
    content: files.DatasetDescriptor
    manifest: pa.Table
    drawn: pa.Table
    work: Work
    span: tuple[float, float]


def _seen(
    store: ArtifactStore, content: files.DatasetDescriptor, manifest: pa.Table, work: Work, span: tuple[float, float]
) -> Seen:
    seen = Seen()
    if content.classes and not manifest["label"].null_count and len(manifest):
        seen.add("label", _texts(manifest["label"]), "the share of the classes", content.target)
    rows = np.sort(np.random.Generator(np.random.PCG64(0)).permutation(manifest.num_rows)[:SAMPLE])
    side = _Reading(store, content, manifest, manifest.take(pa.array(rows)), work, span)
    if content.kind == files.TABLE:
        _add_table(seen, rows_of(store, content, manifest), content)
    elif content.kind == files.AUDIO:
        _add_sounds(seen, side)
    elif content.kind == files.SERIES:
        _add_series(seen, side)
    else:
        _add_pictures(seen, side)
    return seen


def _add_table(seen: Seen, rows: pa.Table, content: files.DatasetDescriptor) -> None:
    for column in content.columns:
        if column.role not in (files.FEATURE, files.TARGET) or (column.name == content.target and content.classes):
            continue
        values = rows[column.name]
        words = f'the target "{column.name}"' if column.role == files.TARGET else f'column "{column.name}"'
        if column.type == files.NUMERIC:
            seen.add(f"column {column.name}", np.asarray(values.to_numpy(), dtype=np.float64), words, column.name)
        else:
            seen.add(f"column {column.name}", _texts(values), words, column.name)


def _add_sounds(seen: Seen, side: _Reading) -> None:
    rate, frames, channels = (_numbers(side.manifest, name) for name in ("rate", "frames", "channels"))
    seen.add("rate", rate, "the sample rate in Hz")
    seen.add("seconds", frames / np.maximum(rate, 1), "the length in seconds")
    seen.add("channels", channels, "the number of channels")
    facts = measure_sounds(side.store, side.content, side.drawn, side.work, side.span)
    seen.add("level", 20 * np.log10(np.maximum(facts.level, 1e-6)), "the loudness in dB")
    bands = facts.spectra.astype(np.float64).mean(axis=2)
    weights = bands / np.maximum(bands.sum(axis=1, keepdims=True), 1e-9)
    seen.add("pitch", weights @ np.arange(bands.shape[1]), "the mean band of the spectrum (0 lowest, 15 highest)")
    # What is quiet beside the loudest: rooms and microphones differ in it.
    seen.add("floor", np.quantile(facts.spectra.reshape(len(facts.spectra), -1), 0.1, axis=1), "the quiet part of the spectrum")


def _add_series(seen: Seen, side: _Reading) -> None:
    measured = measure_series(side.store, side.content, side.drawn, side.work, side.span)
    seen.add("steps", _numbers(side.drawn, "steps"), "the number of steps")
    for place, channel in enumerate(side.content.channels):
        values = {name: np.array([getattr(each, name)[place] for each in measured.facts]) for name in ("middle", "spread")}
        seen.add(f"middle of {channel}", values["middle"], f'the median of channel "{channel}"', channel)
        seen.add(f"spread of {channel}", values["spread"], f'the spread of channel "{channel}"', channel)


def _add_pictures(seen: Seen, side: _Reading) -> None:
    store, content, manifest, drawn, work = side.store, side.content, side.manifest, side.drawn, side.work
    start, end = side.span
    width, height = _numbers(manifest, "width"), _numbers(manifest, "height")
    seen.add("width", width, "the width in pixels")
    seen.add("height", height, "the height in pixels")
    middle = start + (end - start) * 0.8
    looked = look_at_each(_looks, store, content, spans_of(drawn), [()] * len(drawn), work, ("look at pictures", start, middle))
    for name in looked[0] if looked else ():
        seen.add(name, np.array([each[name] for each in looked]), f"the {name} of the pictures")
    if content.task in files.MARKED_TASKS:
        _add_marks(seen, manifest, content)
    if content.task == files.IMAGE_MULTILABEL:
        lists = manifest["labels"].combine_chunks()
        named = pa.array(content.classes).take(lists.flatten())
        seen.add("label", named, "the share of the classes")
    if content.task == files.SEMANTIC_SEGMENTATION:
        counts = mask_counts(store, content, drawn, work, (middle, end)).astype(np.float64)
        shares = counts[:, :-1] / np.maximum(counts[:, :-1].sum(axis=1, keepdims=True), 1)
        for place, label in enumerate(content.classes):
            seen.add(f"share of {label}", shares[:, place], f'the share of pixels of "{label}"')


def _add_marks(seen: Seen, manifest: pa.Table, content: files.DatasetDescriptor) -> None:
    objects = objects_of(manifest, 0)
    wide, high = objects.sides
    usable = (wide > 0) & (high > 0)
    seen.add("label", pa.array(content.classes).take(pa.array(objects.labels)), "the share of the classes among the objects")
    counts = np.bincount(objects.of, minlength=manifest.num_rows).astype(np.float64)
    seen.add("objects", counts, "the number of objects in a picture")
    seen.add("size", np.sqrt(np.maximum(objects.shares[usable], 0)), "the size of the objects (side, to that of the picture)")
    seen.add("shape", np.log(wide[usable] / high[usable]), "the shape of the objects (logarithm of width by height)")


def _looks(data: bytes, _: Sequence[Any]) -> Mapping[str, float]:
    picture = decode(data, height=64, width=64, channels=3)[None]
    found = {key[1].rpartition(".")[2]: float(values[0]) for key, values in picture_features(picture).items()}
    del found["sharpness"]  # of a picture that was resized it says little
    return found


def _texts(values: pa.ChunkedArray) -> pa.Array:
    combined = values.combine_chunks()
    return combined if isinstance(combined, pa.Array) else pa.concat_arrays(combined.chunks)


def _numbers(manifest: pa.Table, name: str) -> Floats:
    return np.asarray(manifest[name].to_numpy(), dtype=np.float64)
