"""Sounds of low and high tones, and series of slow and fast waves: dataset versions that are learned in a second."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.formats import dataset as formats
from modelyard.formats.dataset import DatasetDescriptor
from modelyard.formats.dataset_audio import write_wav

NAMES = ("high", "low")
RATE = 8000
RANDOM_SEED = 7


def sound(kind: int, random: np.random.Generator) -> bytes:
    """A WAV file of about half a second: a high (0) or low (1) tone with noise."""
    frames = int(RATE * random.uniform(0.3, 0.7))
    hertz = random.uniform(1500, 2500) if kind == 0 else random.uniform(200, 500)
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(frames) / RATE) + random.normal(0, 0.05, frames)
    return write_wav((wave.clip(-1, 1) * 32767).astype(np.int16), RATE)


def series(kind: int, random: np.random.Generator, steps: int = 60, channels: int = 1) -> Any:
    """A fast (0) or slow (1) wave with noise, float64 [steps, channels]; one value in forty is missing."""
    phase, speed = random.uniform(0, 6), 1.1 if kind == 0 else 0.3
    wave = np.sin(speed * np.arange(steps)[:, None] + phase + np.arange(channels)) + random.normal(0, 0.2, (steps, channels))
    return np.where(random.random((steps, channels)) < 0.025, np.nan, wave)


def publish_sounds(store: ArtifactStore, counts: dict[str, int], seed: int = 0) -> Blob:
    """A dataset version for audio_classification. The descriptor's blob."""
    random = np.random.default_rng(seed)
    kinds = [place % 2 for place in range(sum(counts.values()))]
    files = [sound(kind, random) for kind in kinds]
    extra = {"rate": [RATE] * len(files), "frames": [(len(file) - 44) // 2 for file in files], "channels": [1] * len(files)}
    return _publish(store, formats.AUDIO, formats.AUDIO_CLASSIFICATION, files, kinds, counts, extra)


def publish_series(
    store: ArtifactStore, counts: dict[str, int], *, lengths: Sequence[int] = (60,), channels: int = 1, seed: int = 0
) -> Blob:
    """A dataset version for series_classification; lengths are taken in turn. The descriptor's blob."""
    random = np.random.default_rng(seed)
    kinds = [place % 2 for place in range(sum(counts.values()))]
    made = [series(kind, random, lengths[place % len(lengths)], channels) for place, kind in enumerate(kinds)]
    files = [np.ascontiguousarray(each, "<f8").tobytes() for each in made]
    extra = {"steps": [len(each) for each in made], "channels": [channels] * len(made)}
    names = tuple(f"c{place}" for place in range(channels))
    return _publish(store, formats.SERIES, formats.SERIES_CLASSIFICATION, files, kinds, counts, extra, channels=names)


def _publish(
    store: ArtifactStore,
    kind: str,
    task: str,
    files: Sequence[bytes],
    kinds: Sequence[int],
    counts: dict[str, int],
    extra: dict[str, Any],
    **described: Any,
) -> Blob:
    import pyarrow as pa

    with tempfile.TemporaryDirectory() as folder:
        writer = formats.PackWriter(Path(folder))
        spans = [writer.append(file) for file in files]
        packs = writer.put_all(store)
    sha = [hashlib.sha256(file).hexdigest() for file in files]
    columns: dict[str, Any] = {
        "example_id": [formats.example_id(str(row), sha[row]) for row in range(len(files))],
        "usage": [name for name, count in counts.items() for _ in range(count)],
        "label": [NAMES[each] for each in kinds],
        "sha256": sha,
        "path": [f"{row}" for row in range(len(files))],
        "annotation": [""] * len(files),
        "attributes": [""] * len(files),
        **{name: [getattr(span, name) for span in spans] for name in ("pack", "offset", "length")},
        **extra,
    }
    manifest = pa.table(columns, schema=formats.manifest_schema(kind, task))
    with tempfile.TemporaryDirectory() as folder:
        blob = store.put_file(formats.write_parquet(manifest, Path(folder, "manifest.parquet")))
    descriptor = DatasetDescriptor(task, kind, blob, "ab" * 32, classes=NAMES, packs=packs, **described)
    return store.put_bytes(formats.to_json(descriptor))
