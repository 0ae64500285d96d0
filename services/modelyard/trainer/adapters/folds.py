"""Folds of dataset versions, as the dataset service cuts them, with the counts of each from its descriptor."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from modelyard.core.artifacts import ArtifactStore, Blob
from modelyard.core.errors import FieldViolation, ModelyardError
from modelyard.core.jobs.convert import blob_from
from modelyard.formats.dataset import TRAIN, VALIDATION, DatasetDescriptor, UsageCount, from_json
from modelyard.trainer.adapters.datasets_client import asked
from modelyard.trainer.ports import Fold, Folds

if TYPE_CHECKING:
    from modelyard.client import Client

SHOWN = 5


class ClientFolding:
    """ports.Folding over a client; what each fold holds comes from its descriptor in the artifact store."""

    def __init__(self, client: Callable[[], Client], artifacts: ArtifactStore) -> None:
        self._client = client
        self._artifacts = artifacts

    def cut(self, version: str, folds: int, repeats: int, seed: int, group_by: str) -> Folds:
        """See ports.Folding."""
        try:
            found = asked(
                self._client,
                lambda client: client.datasets.create_folds(version, folds, repeats=repeats, seed=seed, group_by=group_by),
            )
        except ModelyardError as error:
            raise _placed(error) from error
        return Folds(tuple(self._fold(blob_from(each)) for each in found.descriptor_blobs), tuple(found.notes))

    def _fold(self, descriptor: Blob) -> Fold:
        described = from_json(self._artifacts.read_bytes(descriptor))
        train, validation = (described.counts.get(usage, UsageCount(0)) for usage in (TRAIN, VALIDATION))
        absent = (*_absent(described, train, "train on"), *_absent(described, validation, "validate"))
        return Fold(descriptor, train.examples, validation.examples, absent)


def _absent(described: DatasetDescriptor, count: UsageCount, what: str) -> tuple[str, ...]:
    """Classes without an example, in a sentence; nothing where all have some."""
    missing = [name for name, number in zip(described.classes, count.classes, strict=False) if number == 0]
    if not missing:
        return ()
    shown = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else "")
    return (f"no example of {shown} to {what}",)


def _placed(error: ModelyardError) -> ModelyardError:
    """The dataset service's complaint, with the fields as they are called here."""
    named = tuple(
        FieldViolation("cross_validation.folds" if " k " in f" {each.description} " else "cross_validation", each.description)
        for each in error.violations
    )
    made = type(error)(error.reason, error.message, violations=named, retry_after_s=error.retry_after_s)
    made.values = dict(error.values)
    return made
