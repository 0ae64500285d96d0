"""Forms, training on, limits, targets and the life of an export: a picture classifier on a real server with real workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from modelyard.client import Addresses, AlreadyExists, Client, FailedPrecondition, InvalidArgument, JobFailed, NotFound
from modelyard.core.artifacts import ArtifactStore
from modelyard.core.platform import open_platform
from modelyard.exporter import bootstrap
from modelyard.exporter.domain.export import DatasetVersionRef, ModelVersionRef
from modelyard.exporter.settings import ExporterSettings
from modelyard.exporter.v1 import exporter_pb2 as pb
from modelyard.formats.bundle import open_bundle
from modelyard.formats.model import ModelCard, Normalization, PictureInput, write_model
from modelyard.runtime.model import load_model
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import job_pb2
from tests.integration.exporter.test_exporter_service import Known
from tests.support.datasets import file_store, publish_pictures
from tests.support.hosted import hosted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PARENT = "projects/default"
MODEL = f"{PARENT}/models/shapes/versions/V001"
VERSION = f"{PARENT}/datasets/shapes/versions/V001"
TASK = "image_classification"
CLASSES = ("bright", "dark", "grey")
SIZE = PictureInput(16, 16, 1)
NET = trainer_pb2.Recipe(
    recipe_id="micronet", architecture="modelyard:micronet", input_height=16, input_width=16, input_channels=1
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("forms")
    store = file_store(folder / "artifacts")
    models, versions = _world(store, folder)
    platform = open_platform(ExporterSettings(data_dir=folder), "exporter")
    service = bootstrap.build(platform, models=models, versions=versions)  # type: ignore[arg-type]
    with hosted(platform, [service]) as address:
        yield Client(Addresses.same(address))


def _world(store: ArtifactStore, folder: Path) -> tuple[Known, Known]:
    rng = np.random.default_rng(0)
    levels = np.tile([220, 40, 130], 80)
    images = np.clip(levels[:, None, None] + rng.normal(0, 20, (240, 16, 16)), 0, 255).astype(np.uint8)
    descriptor = publish_pictures(store, images, list(CLASSES) * 80)
    version = DatasetVersionRef(VERSION, "SUCCEEDED", TASK, "ab" * 32, descriptor)
    _write_model(folder / "model.zip", images, levels)
    broken = folder / "broken.zip"
    _write_model(broken, images, levels, nan=True)
    made = [
        ModelVersionRef(MODEL, TASK, store.put_file(folder / "model.zip"), VERSION),
        ModelVersionRef(f"{MODEL}-nan", TASK, store.put_file(broken), VERSION),
    ]
    return Known({each.name: each for each in made}), Known({VERSION: version})


def _write_model(path: Path, images: np.ndarray, levels: np.ndarray, *, nan: bool = False) -> None:
    """A micronet that has learned a few steps."""
    import torch

    from modelyard.recipes.build_image import build

    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = build("modelyard:micronet", classes=3, channels=1, height=16, width=16)
    x = (torch.from_numpy(images).float()[:, None] / 255 - 0.5) / 0.3
    y = torch.from_numpy(np.select([levels == 220, levels == 40], [0, 1], 2))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    tensors = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    if nan:
        first = next(name for name, value in tensors.items() if value.dtype == np.float32)
        tensors[first] = np.full_like(tensors[first], np.nan)
    card = ModelCard("torch", TASK, "modelyard:micronet", CLASSES, SIZE, Normalization((0.5,), (0.3,)))
    write_model(path, card, tensors)


def exported(client: Client, version: str = "shapes/V001", **asked: object) -> pb.Export:
    started = client.exports.create_export(version, **asked)  # type: ignore[arg-type]
    return client.exports.wait_export(started.name, timeout_s=240)


@pytest.fixture(scope="module")
def whole(client: Client) -> pb.Export:
    """The float ONNX."""
    return exported(client)


@pytest.mark.parametrize(
    ("format", "precision"),
    [
        ("onnx", "int8"),
        ("litert", "dynamic_int8"),
        ("openvino", "fp32"),
    ],
)
def test_a_form_is_exported_measured_and_answers(client: Client, tmp_path: Path, format: str, precision: str) -> None:
    made = exported(client, format=format, precision=precision)
    assert made.status.state == job_pb2.JOB_STATE_SUCCEEDED
    assert made.model_size_bytes > 500
    assert made.latency.p95_ms > 0
    assert made.latency.target == "cpu"
    assert made.HasField("single_thread_latency") == (made.latency.threads > 1)
    assert made.parity.label_agreement > 0.9
    assert made.HasField("calibration") == (precision == "int8")
    assert made.quantization == (pb.QUANTIZATION_POST_TRAINING if precision == "int8" else 0)
    assert made.origin == pb.ORIGIN_TRAINED
    bundle = open_bundle(client.artifacts.download(made.artifact, tmp_path / "m.zip"))
    assert (bundle.card.format, bundle.card.precision) == (format, precision)
    vectors = bundle.test_vectors()
    model = load_model(bundle)
    np.testing.assert_allclose(model.run(vectors.inputs)["probabilities"], vectors.outputs["probabilities"], atol=1e-3)
    model.close()


def test_quantization_aware_training(client: Client) -> None:
    made = exported(client, precision="int8", quantization="aware_training", max_training_s=5)
    assert made.quantization == pb.QUANTIZATION_AWARE_TRAINING
    assert made.precision == pb.PRECISION_INT8
    assert made.max_training_time.seconds == 5


def test_pruned_channels_make_it_smaller(client: Client, whole: pb.Export) -> None:
    pruned = exported(client, pruning=pb.Pruning(channels=0.5), max_training_s=5)
    assert pruned.model_size_bytes < 0.8 * whole.model_size_bytes
    assert pruned.pruning.channels == 0.5


def test_limits_are_kept_and_the_trail_is_told(client: Client, whole: pb.Export) -> None:
    limits = pb.CompressionLimits(max_size_bytes=int(0.6 * whole.model_size_bytes), max_loss=0.05, skip_training=True)
    made = exported(client, format="litert", limits=limits)
    assert made.model_size_bytes <= limits.max_size_bytes
    assert made.precision != 0
    assert len(made.trail) > 1
    assert any(step.accepted for step in made.trail)
    assert all(step.message for step in made.trail)


def test_limits_that_nothing_keeps_give_the_float_model_and_say_so(client: Client) -> None:
    made = exported(client, limits=pb.CompressionLimits(max_size_bytes=100, skip_training=True))
    assert (made.format, made.precision) == (pb.FORMAT_ONNX, pb.PRECISION_FP32)
    assert not made.trail[-1].accepted
    assert "no road" in made.trail[-1].message


def test_mcu_is_made_in_its_form_and_not_measured(client: Client) -> None:
    made = exported(client, target="mcu")
    assert (made.format, made.precision, made.target) == (pb.FORMAT_EDGE, pb.PRECISION_INT8, "mcu")
    assert not made.HasField("latency")
    assert "no agent" in made.unmeasured_reason


def test_a_target_without_room_is_an_error(client: Client) -> None:
    client.targets.create_target("tiny", pb.Target(format=pb.FORMAT_EDGE, flash_bytes=300))
    with pytest.raises(JobFailed) as caught:
        exported(client, target="tiny")
    assert caught.value.reason == "MODEL_TOO_LARGE"
    client.targets.delete_target("tiny")


def test_the_targets_room_counts_beside_a_larger_limit(client: Client) -> None:
    client.targets.create_target("tight", pb.Target(format=pb.FORMAT_EDGE, flash_bytes=300))
    limits = pb.CompressionLimits(max_size_bytes=1 << 30, skip_training=True)
    made = exported(client, target="tight", limits=limits)
    assert "no road" in made.trail[-1].message
    assert "at most 300 are allowed" in made.trail[1].message
    client.targets.delete_target("tight")


def test_an_agent_that_does_not_answer_is_a_reason(client: Client) -> None:
    client.targets.create_target("away", pb.Target(format=pb.FORMAT_LITERT, agent="127.0.0.1:9"))
    made = exported(client, target="away")
    assert not made.HasField("latency")
    assert "did not measure" in made.unmeasured_reason
    client.targets.delete_target("away")


def test_a_latency_that_nobody_can_measure_cannot_be_limited(client: Client) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        client.exports.create_export("shapes/V001", target="mcu", limits=pb.CompressionLimits(max_latency_ms=5))
    assert caught.value.reason == "LATENCY_UNMEASURED"


def test_weights_that_are_no_numbers_are_named(client: Client) -> None:
    with pytest.raises(JobFailed) as caught:
        exported(client, "shapes/V001-nan", precision="int8")
    assert caught.value.reason == "BAD_WEIGHTS"


def test_cancelled_while_it_trains_nothing_stays(client: Client) -> None:
    started = client.exports.create_export("shapes/V001", precision="int8", quantization="aware_training", max_training_s=120)
    for change in client.exports.watch_export(started.name):
        if "train" in change.export.status.progress.stage:
            break
    began = time.monotonic()
    client.exports.cancel_export(started.name)
    with pytest.raises(JobFailed):
        client.exports.wait_export(started.name, timeout_s=60)
    assert time.monotonic() - began < 20
    found = client.exports.get_export(started.name)
    assert found.status.state == job_pb2.JOB_STATE_CANCELLED
    assert found.artifact.uri == ""


def test_targets(client: Client) -> None:
    names = [target.name.rpartition("/")[2] for target in client.targets.list_targets()]
    assert names == ["cpu", "cpu-1core", "gpu", "edge-arm64", "mcu"]
    made = client.targets.create_target("camera", pb.Target(format=pb.FORMAT_LITERT, precision=pb.PRECISION_INT8))
    assert client.targets.get_target("camera") == made
    with pytest.raises(AlreadyExists):
        client.targets.create_target("camera", pb.Target(format=pb.FORMAT_ONNX))
    with pytest.raises(InvalidArgument, match="comes with the product"):
        client.targets.create_target("cpu")
    client.targets.delete_target("camera")
    with pytest.raises(NotFound):
        client.targets.get_target("camera")


def test_a_profile_on_a_target_that_is_not_here(client: Client) -> None:
    started = client.profiles.create_latency_profile("shapes/V001", [NET], target="mcu")
    profile = client.profiles.wait_latency_profile(started.name, timeout_s=180)
    (candidate,) = profile.candidates
    assert not candidate.HasField("latency")
    assert candidate.error_message == ""
    assert "no agent" in candidate.unmeasured_reason
    assert candidate.size_bytes > 500


def test_an_imported_model_is_proven_measured_and_has_no_history(client: Client, whole: pb.Export, tmp_path: Path) -> None:
    bundle = open_bundle(client.artifacts.download(whole.artifact, tmp_path / "m.zip"))
    path = tmp_path / "elsewhere.onnx"
    path.write_bytes(bundle.model_bytes())
    told = {"task": TASK, "dataset_version": "shapes/V001", "licence": "Apache-2.0"}
    blob = client.artifacts.upload(path, service="exporter")
    started = client.exports.import_model(blob, file_name=path.name, classes=CLASSES, **told)  # type: ignore[arg-type]
    made = client.exports.wait_export(started.name, timeout_s=240)
    assert (made.origin, made.model_version, made.format) == (pb.ORIGIN_IMPORTED, "", pb.FORMAT_ONNX)
    assert made.precision == pb.PRECISION_FP32
    assert made.latency.p95_ms > 0
    assert not made.HasField("parity")
    card = open_bundle(client.artifacts.download(made.artifact, tmp_path / "i.zip")).card
    assert (card.origin, card.licence, card.classes) == ("imported", "Apache-2.0", CLASSES)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(bundle.model_bytes()[:500])
    blob = client.artifacts.upload(cut, service="exporter")
    started = client.exports.import_model(blob, file_name=cut.name, classes=CLASSES, **told)  # type: ignore[arg-type]
    with pytest.raises(JobFailed) as caught:
        client.exports.wait_export(started.name, timeout_s=240)
    assert caught.value.reason == "NOT_AN_ONNX_FILE"
