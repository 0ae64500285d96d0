"""Recordings of small machines, each at a level of its own, some of which go wrong: dataset versions learned in a second."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.formats import dataset as formats
from modelyard.formats.dataset import DatasetDescriptor

CHANNELS = ("speed", "current", "heat")
STEPS = 300
WRONG = (170, 230)
"""The readings at which every second machine goes wrong."""


def machine(number: int, random: np.random.Generator, *, steps: int = STEPS, wrong: bool = False) -> Any:
    """float64 [steps, 3]: current follows speed until something is the matter; one value in a hundred is missing."""
    level, spread = random.normal(0, 20, 3), random.uniform(0.5, 2.0)
    speed = random.normal(0, 1, steps)
    values = np.stack([speed, speed + random.normal(0, 0.2, steps), random.normal(0, 1, steps)], axis=1)
    if wrong:
        values[WRONG[0] : WRONG[1], 1] = -values[WRONG[0] : WRONG[1], 1] + 1.5
    return np.where(random.random(values.shape) < 0.01, np.nan, level + spread * values)


def publish_machines(
    store: ArtifactStore, counts: Mapping[str, int], *, wrong: Sequence[str] = formats.USAGES, steps: int = STEPS, seed: int = 3
) -> Blob:
    """A dataset version for anomaly_detection; every second recording of the usages in `wrong` goes wrong. Its blob."""
    random = np.random.default_rng(seed)
    usages = [usage for usage, count in counts.items() for _ in range(count)]
    odd = [place % 2 == 1 and usage in wrong for place, usage in enumerate(usages)]
    made = [machine(place, random, steps=steps, wrong=each) for place, each in enumerate(odd)]
    intervals = [[{"start": WRONG[0], "end": WRONG[1], "label": 0}] if each else [] for each in odd]
    return publish_recordings(store, formats.ANOMALY_DETECTION, made, usages, CHANNELS, ("anomaly",), intervals=intervals)


def publish_recordings(
    store: ArtifactStore,
    task: str,
    made: Sequence[Any],
    usages: Sequence[str],
    channels: Sequence[str],
    classes: Sequence[str] = (),
    **more: Any,
) -> Blob:
    """A dataset version of series without labels; `more`: columns of the manifest beside. The descriptor's blob."""
    import pyarrow as pa

    files = [np.ascontiguousarray(each, "<f8").tobytes() for each in made]
    with tempfile.TemporaryDirectory() as folder:
        writer = formats.PackWriter(Path(folder))
        spans = [writer.append(file) for file in files]
        packs = writer.put_all(store)
    sha = [hashlib.sha256(file).hexdigest() for file in files]
    columns: dict[str, Any] = {
        "example_id": [formats.example_id(str(row), sha[row]) for row in range(len(files))],
        "usage": list(usages),
        "label": [None] * len(files),
        "sha256": sha,
        "path": [f"{row}.csv" for row in range(len(files))],
        "annotation": [""] * len(files),
        "attributes": [""] * len(files),
        **{name: [getattr(span, name) for span in spans] for name in ("pack", "offset", "length")},
        "steps": [len(each) for each in made],
        "channels": [len(channels)] * len(made),
        **more,
    }
    manifest = pa.table(columns, schema=formats.manifest_schema(formats.SERIES, task))
    with tempfile.TemporaryDirectory() as folder:
        blob = store.put_file(formats.write_parquet(manifest, Path(folder, "manifest.parquet")))
    described = DatasetDescriptor(
        task, formats.SERIES, blob, "cd" * 32, classes=tuple(classes), packs=packs, channels=tuple(channels)
    )
    return store.put_bytes(formats.to_json(described))


def demand(steps: int, seed: int = 0, *, period: int = 12, noise: float = 0.3, channels: int = 1) -> Any:
    """Series that grow and repeat every `period` readings, float64 [steps, channels], each channel on a scale of its own."""
    random = np.random.default_rng(seed)
    at = np.arange(steps)[:, None]
    wave = np.sin(2 * np.pi * at / period + np.arange(channels)) + 0.5 * np.sin(4 * np.pi * at / period)
    return (50 + 0.05 * at + 5 * wave + random.normal(0, noise, (steps, channels))) * (10.0 ** np.arange(channels))


def publish_demand(store: ArtifactStore, made: Sequence[Any], names: Sequence[str] = ()) -> Blob:
    """A dataset version for forecasting, each series cut in time as an import cuts it. The descriptor's blob."""
    from modelyard.formats.annotations import attributes_json
    from modelyard.formats.forecasts import SERIES_NAME, START, cut_points

    parts, usages, attributes = [], [], []
    for number, values in enumerate(made):
        for usage, first, last in cut_points(len(values)):
            parts.append(values[first:last])
            usages.append(usage)
            name = names[number] if names else f"s{number}"
            attributes.append(attributes_json({SERIES_NAME: name, START: str(first)}))
    channels = tuple(f"c{place}" for place in range(made[0].shape[1]))
    return publish_recordings(store, formats.FORECASTING, parts, usages, channels, attributes=attributes)
