"""The dataset service through modelyard.client, and the facts of a version's pictures from its own files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final, TypeVar

from modelyard.core import errors
from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.errors import FailedPrecondition, FieldViolation, ModelyardError
from modelyard.core.jobs.convert import blob_from
from modelyard.formats.dataset import AUDIO, IMAGE, TABLE, TRAIN, DatasetDescriptor, from_json, load_manifest
from modelyard.recipes.catalogue import DatasetFacts
from modelyard.trainer.ports import DatasetVersion
from modelyard.type.v1 import job_pb2, learning_pb2

if TYPE_CHECKING:
    from modelyard.client import Client
    from modelyard.client.errors import ModelyardClientError
    from modelyard.dataset.v1 import dataset_pb2

T = TypeVar("T")
PICTURES_LOOKED_AT: Final = 64
PACKS_LOOKED_AT: Final = 2


_SIZES: Final = {IMAGE: ["pack", "offset", "length", "width", "height"], AUDIO: ["rate", "frames"]}
"""Columns of the manifest that are looked at, by kind."""


class ClientDatasets:
    """Datasets (see ports) over a client; descriptors and pictures come from the artifact store."""

    def __init__(self, client: Callable[[], Client], artifacts: ArtifactStore) -> None:
        self._client = client
        self._artifacts = artifacts
        self._facts = lru_cache(maxsize=256)(self._read_facts)

    def get_version(self, name: str) -> DatasetVersion:
        """Reads a version. Raises what the dataset service answers, FailedPrecondition DATASET_VERSION_NOT_READY."""
        found = self._fetch(name)
        if found.status.state != job_pb2.JOB_STATE_SUCCEEDED:
            raise _not_ready(found)
        descriptor = blob_from(found.descriptor_blob)
        validation = next((each for each in found.counts if each.usage == learning_pb2.USAGE_VALIDATION), None)
        return DatasetVersion(
            found.name,
            found.digest,
            tuple(found.classes),
            descriptor,
            self._facts(descriptor),
            validation.example_count if validation else 0,
            tuple(validation.class_counts) if validation else (),
        )

    def hold(self, version: str, training_job: str, model: str) -> None:
        """Records the use. Raises what the dataset service answers."""
        self._ask(lambda client: client.datasets.create_dataset_use(version, training_job, model=model))

    def _fetch(self, name: str) -> dataset_pb2.DatasetVersion:
        return self._ask(lambda client: client.datasets.get_dataset_version(name))

    def _ask(self, call: Callable[[Client], T]) -> T:
        return asked(self._client, call)

    def _read_facts(self, descriptor: Blob) -> DatasetFacts:
        return read_facts(self._artifacts, descriptor)


def asked(open_client: Callable[[], Client], call: Callable[[Client], T]) -> T:
    """What a call of the dataset service answers. Raises its errors as this service's own."""
    from modelyard.client.errors import ModelyardClientError

    client = open_client()
    try:
        return call(client)
    except ModelyardClientError as error:
        raise _translated(error) from error
    finally:
        client.close()


def read_facts(artifacts: ArtifactStore, descriptor: Blob) -> DatasetFacts:
    """What the choice of a recipe depends on. Sizes are medians over training pictures; a sample says whether all are grey."""
    described = from_json(artifacts.read_bytes(descriptor))
    where = _SIZES.get(described.kind, [])
    manifest = load_manifest(artifacts, described, ["usage", *where])
    training = [row for row in manifest.to_pylist() if row["usage"] == TRAIN]
    facts = DatasetFacts(described.task, len(training), len(described.answered))
    if described.kind == TABLE:
        return replace(facts, columns=described.columns, target=described.target, rows=manifest.num_rows)
    if described.kind == AUDIO and training:
        lengths = [1000 * row["frames"] / max(row["rate"], 1) for row in training]
        return replace(facts, width=round(median(lengths)), channels=1)
    if described.kind != IMAGE or not training:
        return facts
    height, width = (round(median(row[name] for row in training)) for name in ("height", "width"))
    return replace(facts, height=height, width=width, channels=_channels(artifacts, described, training))


def _channels(artifacts: ArtifactStore, described: DatasetDescriptor, rows: Sequence[Mapping[str, int]]) -> int:
    """1 when the pictures looked at are all grey, else 3. Only the first packs are opened: a store may have to fetch them."""
    near = [row for row in rows if row["pack"] < PACKS_LOOKED_AT] or rows
    some = near[:: max(1, len(near) // PICTURES_LOOKED_AT)]
    paths = {number: artifacts.path(described.packs[number]) for number in {row["pack"] for row in some}}
    return 1 if all(_is_grey(_picture(paths[row["pack"]], row)) for row in some) else 3


def _picture(pack: Path, row: Mapping[str, int]) -> bytes:
    with pack.open("rb") as file:
        file.seek(row["offset"])
        return file.read(row["length"])


def _is_grey(data: bytes) -> bool:
    """Whether the colours of a picture, made 32 x 32, are equal in every pixel (a JPEG's may be 2 of 255 apart)."""
    from modelyard.formats.pictures import decode

    pixels = decode(data, height=32, width=32, channels=3).astype(int)
    return int((pixels.max(axis=2) - pixels.min(axis=2)).max()) <= 2


def _not_ready(version: dataset_pb2.DatasetVersion) -> FailedPrecondition:
    state = job_pb2.JobState.Name(version.status.state).removeprefix("JOB_STATE_")
    message = f"dataset_version is {version.name}, which is {state}; it must have SUCCEEDED before it can be trained on"
    return FailedPrecondition("DATASET_VERSION_NOT_READY", message, field="dataset_version", value=version.name, state=state)


def _translated(error: ModelyardClientError) -> ModelyardError:
    """What the dataset service answered, as this service's own error of the same name."""
    cls = getattr(errors, type(error).__name__, errors.Unavailable)
    violations = tuple(FieldViolation("dataset_version", each.description) for each in error.violations)
    made: ModelyardError = cls(error.reason, error.message, violations=violations, retry_after_s=error.retry_after_s)
    made.values = dict(error.values)
    return made
