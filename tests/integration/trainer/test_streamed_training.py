"""A training whose data come from a real S3 while it runs: the same model as from memory, with a cache that holds a part."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modelyard.core.artifacts import Blob
from modelyard.core.artifacts_s3 import S3ArtifactStore, connect
from modelyard.core.errors import DataLoss
from modelyard.core.settings import CoreSettings
from modelyard.formats.dataset import open_dataset
from modelyard.formats.model import PictureInput
from modelyard.trainer.worker import data
from modelyard.trainer.worker.data import open_examples
from modelyard.trainer.worker.loop import train
from modelyard.trainer.worker.run import Outcome
from modelyard.trainer.worker.streamed import StreamedExamples
from tests.support.datasets import publish_pictures
from tests.support.minio import s3_server
from tests.support.small_training import SMALL, KeptHooks, small_setup, stripes

SIDE, COUNT, BUCKET = 16, 1200, "streamed"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CoreSettings]:
    with s3_server() as server:
        yield CoreSettings(
            s3_endpoint=server.endpoint,
            s3_access_key=server.access_key,
            s3_secret_key=server.secret_key,
            data_dir=tmp_path_factory.mktemp("data"),
        )


def store(s3: CoreSettings, cache: Path, cache_bytes: int = 1 << 30) -> S3ArtifactStore:
    return S3ArtifactStore(connect(s3), BUCKET, "dataset", cache, cache_bytes)


@pytest.fixture(scope="module")
def version(s3: CoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Blob:
    """1,200 stripes sorted by class in packs of 64 KiB."""
    pictures, labels = stripes(COUNT)
    order = np.argsort(labels, kind="stable")
    names = ["across", "along", "aslant"]
    usage = ["validation" if row % 10 == 0 else "train" for row in range(COUNT)]
    publishing = store(s3, tmp_path_factory.mktemp("publish"))
    return publish_pictures(publishing, pictures[order], [names[labels[row]] for row in order], usage=usage, pack_bytes=1 << 16)


def trained(
    s3: CoreSettings, version: Blob, workdir: Path, cache: Path, memory_bytes: int, cache_bytes: int = 1 << 30
) -> Outcome:
    reader = open_dataset(store(s3, cache, cache_bytes), version)
    picture = PictureInput(SIDE, SIDE, 1)
    workdir.mkdir()
    with open_examples(reader, picture, 0, memory_bytes=memory_bytes, should_stop=lambda: False) as (training, validation):
        assert isinstance(training, StreamedExamples) == (memory_bytes == 1)
        setup = small_setup(workdir, replace(SMALL, max_epochs=2, batch_size=60))
        return train(replace(setup, train=training, validation=validation), KeptHooks())


def test_streamed_from_s3_with_processes_and_a_small_cache_it_is_the_same_model(
    s3: CoreSettings, version: Blob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "FEW", 10)
    monkeypatch.setattr(data, "fitting_block_bytes", lambda *_: 1 << 14)
    held = trained(s3, version, tmp_path / "held", tmp_path / "cache", 1 << 30)
    assert list((tmp_path / "cache" / "parts").rglob("*-*"))
    small, cache_bytes = tmp_path / "small", 150_000
    streamed = trained(s3, version, tmp_path / "streamed", small, 1, cache_bytes)
    assert sum(path.stat().st_size for path in small.rglob("*") if path.is_file()) <= cache_bytes
    assert held.metrics == streamed.metrics
    assert held.metrics["val_accuracy"] > 0.5
    assert all(np.array_equal(streamed.weights[name], value) for name, value in held.weights.items())


def test_a_copy_that_was_damaged_is_fetched_again_and_a_damaged_store_is_named(
    s3: CoreSettings, version: Blob, tmp_path: Path
) -> None:
    reader = open_dataset(store(s3, tmp_path / "cache"), version)
    picture = PictureInput(SIDE, SIDE, 1)

    def first(cache: Path) -> None:
        again = open_dataset(store(s3, cache), version)
        with open_examples(again, picture, 0, memory_bytes=1, should_stop=lambda: False) as (training, _):
            list(training.in_order(100))

    first(tmp_path / "cache")
    parts = [path for path in (tmp_path / "cache" / "parts").rglob("*-*") if path.is_file()]
    for path in parts:
        path.write_bytes(bytes(path.stat().st_size))
    first(tmp_path / "cache")
    assert all(any(path.read_bytes()) for path in parts)
    pack = reader.descriptor.packs[0]
    client, key = connect(s3), pack.uri.removeprefix("artifact://")
    whole = store(s3, tmp_path / "whole").read_bytes(pack)
    client.put_object(BUCKET, key, io.BytesIO(bytes(len(whole))), len(whole))
    try:
        with pytest.raises(DataLoss, match="row 1'") as caught:
            first(tmp_path / "empty")
        assert (caught.value.reason, caught.value.values["uri"]) == ("EXAMPLE_CORRUPT", pack.uri)
    finally:
        client.put_object(BUCKET, key, io.BytesIO(whole), len(whole))
