"""The part of a quality report that is about sounds: each is read and measured once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from modelyard.core.artifacts import ArtifactStore
from modelyard.dataset.domain.findings import Names
from modelyard.dataset.domain.records import Finding
from modelyard.dataset.domain.sound_checks import near_groups, sound_findings
from modelyard.dataset.domain.sound_facts import Measured, SoundFacts, gathered, measure
from modelyard.dataset.domain.work import Work
from modelyard.dataset.worker.example_pass import look_at_each, spans_of
from modelyard.formats.dataset import DatasetDescriptor
from modelyard.formats.dataset_audio import samples

_MANY = 1000
"""Measurements of so many sounds are kept for an attempt that follows one that was killed."""

Ints = npt.NDArray[np.int64]


def measure_sounds(
    store: ArtifactStore, content: DatasetDescriptor, manifest: pa.Table, work: Work, span: tuple[float, float]
) -> SoundFacts:
    """Measures every sound of a manifest. span: the share of the job that this is. Raises Cancelled."""
    known = [()] * manifest.num_rows

    def heard() -> dict[str, npt.NDArray[Any]]:
        facts = gathered(look_at_each(_measured, store, content, spans_of(manifest), known, work, ("listen", *span)))
        return {each.name: getattr(facts, each.name) for each in fields(facts)}

    if manifest.num_rows < _MANY:
        return SoundFacts(**heard())
    which = hashlib.sha256(spans_of(manifest).tobytes() + "".join(pack.uri for pack in content.packs).encode())
    return SoundFacts(**work.once(f"sounds {which.hexdigest()[:16]}", heard))


def check_sounds(facts: SoundFacts, manifest: pa.Table, names: Names) -> list[Finding]:
    """Findings of the sounds of a manifest."""
    rates, frames, channels = (_ints(manifest, name) for name in ("rate", "frames", "channels"))
    return sound_findings(facts, rates, frames, channels, names)


def near_sounds(
    store: ArtifactStore, content: DatasetDescriptor, manifest: pa.Table, groups: Ints, work: Work, span: tuple[float, float]
) -> Ints:
    """Groups int64 [N] of equal sounds (`groups`), joined where sounds are nearly equal: what a split keeps on one side. Reads
    every sound. Raises Cancelled."""
    return near_groups(groups, measure_sounds(store, content, manifest, work, span))


def sound_looks(facts: SoundFacts) -> npt.NDArray[np.float64]:
    """What sounds look like, to compare them by: float64 [N, 256]."""
    return facts.spectra.reshape(len(facts.spectra), -1).astype(np.float64)


def _measured(data: bytes, _: Sequence[Any]) -> Measured:
    values, rate = samples(data)
    return measure(values, rate)


def _ints(manifest: pa.Table, name: str) -> Ints:
    return np.asarray(manifest[name].to_numpy(), dtype=np.int64)
