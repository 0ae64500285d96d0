"""The diamond in the flow: export and validate; if not good enough, back to the data or to quantization-aware training.

Everything is real: servers, workers, runtimes. The pictures are scikit-learn's handwritten digits.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelyard.client import Client, last_part
from modelyard.dataset.v1 import dataset_pb2
from modelyard.evaluator.v1 import evaluator_pb2
from modelyard.exporter.v1 import exporter_pb2
from modelyard.pipeline.v1 import pipeline_pb2
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import job_pb2, learning_pb2
from tests.support.servers import start_embedded
from tests.support.sources import digits_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

P = "projects/default"
FORMS = [
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("litert", "fp32"),
    ("litert", "int8"),
    ("openvino", "fp16"),
    ("savedmodel", "fp32"),
]
"""Each format, and those whose sizes are compared; every form is made in tests/integration/exporter."""


@dataclass
class Yard:
    """A server on a data folder, a client of it, and the command line."""

    folder: Path
    address: str
    client: Client
    environment: dict[str, str]

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def run(self, *arguments: object) -> tuple[int, Any, str]:
        """Status, the JSON object printed last, and stderr of `modelyard ... --json`."""
        command = [sys.executable, "-m", "modelyard.cli", *map(str, arguments), "--server", self.address, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False, env=self.environment)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, json.loads(done.stdout.strip().splitlines()[-1]), done.stderr


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("diamond")
    server = start_embedded(folder / "data", folder / "log", {"MODELYARD_EXPORTER_SLOTS": "2"})
    server.wait_ready()
    with Client(server.address) as client:
        yield Yard(folder, server.address, client, server.for_commands())
    assert server.stop() == 0


QUICK = trainer_pb2.Hyperparameters(max_epochs=12, batch_size=32, base_lr=5e-3, warmup_steps=10, augmentation="none")
"""A schedule of fixed length: the same on a slow machine."""
HALF = dataset_pb2.SplitPolicy(train_ratio="0.5")
"""Half of the pictures are not for training, so that the gate can tell."""


@pytest.fixture(scope="module")
def digits(yard: Yard) -> pipeline_pb2.PipelineResult:
    """A float model of the digits, digits/V001."""
    folder = digits_folder(yard.folder / "digits", per_class=150, size=16)
    source = pipeline_pb2.Source(
        blob=yard.client.artifacts.upload(folder), file_name="digits.zip", dataset=f"{P}/datasets/digits"
    )
    recipe = trainer_pb2.Recipe(recipe_id="micronet", hyperparameters=QUICK)
    run = finished(yard, pipeline_pb2.PipelineRun(source=source, split=HALF, recipe=recipe, skip_deployment=True))
    assert run.result.gate_decision.verdict == evaluator_pb2.VERDICT_DEPLOY
    assert accuracy(run.result.scores) > 0.85
    return run.result


def pictures(yard: Yard, digits: pipeline_pb2.PipelineResult) -> np.ndarray:
    """The digits as the model takes them, uint8 [N, H, W, C]."""
    from modelyard.formats.pictures import decode

    size = yard.client.models.get_model_version(digits.model_version).recipe
    files = sorted((yard.folder / "digits").glob("*/*.png"))[::10]
    shape = {"height": size.input_height, "width": size.input_width, "channels": size.input_channels}
    return np.stack([decode(path.read_bytes(), name=path.name, **shape) for path in files])


def seeded(yard: Yard, digits: pipeline_pb2.PipelineResult) -> str:
    """A model version with the same answers, whose plain int8 fails; registered as the trainer registers what it has trained."""
    from modelyard.core.platform import open_platform
    from modelyard.core.settings import CoreSettings
    from modelyard.embedded import NAME
    from modelyard.trainer.handlers.models import get_model_version, keep_version
    from tests.support.failing_int8 import make_failing_model_file

    trained = yard.client.models.get_model_version(digits.model_version)
    model = yard.client.artifacts.download(trained.model_file, yard.folder / "model.zip")
    failing = make_failing_model_file(model, yard.folder / "failing.zip", pictures(yard, digits))
    platform = open_platform(CoreSettings(data_dir=yard.data_dir), NAME)
    blob = platform.for_service("trainer").artifacts.put_file(failing)
    known = get_model_version(platform.resources, digits.model_version).content
    version = keep_version(
        platform.resources, f"{P}/models/seeded", replace(known, model_file=blob, training_job=f"{P}/trainingJobs/seeded")
    )
    platform.engine.dispose()
    return version


def finished(yard: Yard, run: pipeline_pb2.PipelineRun) -> pipeline_pb2.PipelineRun:
    made = yard.client.pipelines.create_pipeline_run(run)
    return yard.client.pipelines.wait_pipeline_run(made.name, timeout_s=400)


def test_a_model_whose_int8_fails_is_trained_with_rounding_validated_again_and_deployed(
    yard: Yard, digits: pipeline_pb2.PipelineResult
) -> None:
    version = seeded(yard, digits)
    recipe = trainer_pb2.Recipe()
    recipe.CopyFrom(yard.client.models.get_model_version(digits.model_version).recipe)
    recipe.hyperparameters.CopyFrom(
        trainer_pb2.Hyperparameters(max_steps=1, max_epochs=1, base_lr=1e-7, warmup_steps=0, augmentation="none", batch_size=64)
    )
    run = finished(
        yard,
        pipeline_pb2.PipelineRun(
            dataset_version=digits.dataset_version,
            incremental_model_version=version,
            recipe=recipe,
            model=f"{P}/models/seeded",
            endpoint=f"{P}/endpoints/seeded",
            precision=exporter_pb2.PRECISION_INT8,
            max_loss=0.05,
            max_training_time={"seconds": 40},
        ),
    )
    steps = {step.step_id: step for step in run.steps}
    assert list(steps)[-4:] == ["retry_export", "retry_evaluate", "retry_gate", "deploy"]
    assert {step.state for step in run.steps} == {job_pb2.JOB_STATE_SUCCEEDED}
    result = run.result
    assert result.first_gate_decision.verdict == evaluator_pb2.VERDICT_RETRY_WITH_QAT
    assert result.gate_decision.verdict == evaluator_pb2.VERDICT_DEPLOY
    made = yard.client.exports.get_export(result.export)
    assert (made.precision, made.quantization) == (exporter_pb2.PRECISION_INT8, exporter_pb2.QUANTIZATION_AWARE_TRAINING)
    assert made.name == steps["retry_export"].resource != steps["export"].resource
    assert accuracy(result.scores) > accuracy(result.float_scores) - 0.05
    files = sorted((yard.folder / "digits").glob("*/*.png"))[::25]
    said = yard.client.predictions.predict("seeded", image=files).labels
    right = sum(label == path.parent.name for label, path in zip(said, files, strict=True))
    assert right / len(files) > 0.8


def accuracy(scores: Any) -> float:
    test = max(scores, key=lambda score: score.usage)
    return next(float(metric.value) for metric in test.metrics if metric.name == "accuracy")


def test_wrong_labels_end_back_to_data_with_the_examples_named(yard: Yard) -> None:
    """A quarter of the pictures stand in a wrong folder; their names tell the truth."""
    right = digits_folder(yard.folder / "right", per_class=150, size=16)
    rng = np.random.default_rng(0)
    wrong: set[str] = set()
    for path in sorted(right.glob("*/*.png")):
        label = path.parent.name
        if rng.random() < 0.25:
            label = str((int(label) + int(rng.integers(1, 10))) % 10)
        name = f"{label}/is{path.parent.name}-{path.name}"
        wrong |= {name} if label != path.parent.name else set()
        (yard.folder / "wrong" / label).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, yard.folder / "wrong" / name)
    source = pipeline_pb2.Source(
        blob=yard.client.artifacts.upload(yard.folder / "wrong"), file_name="wrong.zip", dataset=f"{P}/datasets/mislabelled"
    )
    recipe = trainer_pb2.Recipe(recipe_id="micronet", hyperparameters=QUICK)
    floors = [learning_pb2.Floor(metric="accuracy", value=0.9)]
    run = finished(yard, pipeline_pb2.PipelineRun(source=source, split=HALF, recipe=recipe, floors=floors))
    status, told, said = yard.run("runs", "watch", last_part(run.name))
    assert status == 3, (told, said)
    assert told["gate"]["verdict"] == "BACK_TO_DATA"
    assert told["deployment"] == ""
    paths = [example["path"] for example in told["gate"]["examples"]]
    assert len(paths) >= 10
    found = [path for path in paths if path.partition("wrong/")[2] in wrong or path in wrong]
    assert len(found) > 0.5 * len(paths), (len(found), len(paths), paths[:5])


def test_export_says_what_it_promises_for_every_format(yard: Yard, digits: pipeline_pb2.PipelineResult) -> None:
    def one(form: tuple[str, str]) -> tuple[int, Any, str]:
        return yard.run("export", short(digits.model_version), "--format", form[0], "--precision", form[1])

    floating = one(FORMS[0])
    with ThreadPoolExecutor(2) as pool:
        ended = dict(zip(FORMS, [floating, *pool.map(one, FORMS[1:])], strict=True))
    for form, (status, told, said) in ended.items():
        assert status in (0, 3), (form, told, said)
        assert (told["format"].lower(), told["precision"].lower().replace("_", "-")) == form
        assert len(told["sha256"]) == 64
        assert told["bytes"] > 1000
        assert 0 < told["latency_ms"]["p50"] <= told["latency_ms"]["p95"]
        assert told["float_metrics"]["test"] == floating[1]["metrics"]["test"]
        assert told["verdict"] in ("DEPLOY", "RETRY_WITH_QAT", "BACK_TO_DATA", "NOT_ENOUGH_DATA")
        assert (status == 0) == (told["verdict"] == "DEPLOY")
        assert told["metrics"]["test"]["accuracy"] > floating[1]["metrics"]["test"]["accuracy"] - 0.1, form
    sizes = {form: told["bytes"] for form, (_, told, _) in ended.items()}
    assert sizes["litert", "int8"] < 0.5 * sizes["litert", "fp32"]
    assert ended["onnx", "fp32"][1]["verdict"] == "DEPLOY"
    floats = [one for one in yard.client.exports.list_exports() if one.model_version == digits.model_version]
    assert sum((one.format, one.precision) == (1, 1) for one in floats) <= 2, "the float parent is used again"


def test_the_bundle_for_a_microcontroller_compiles_and_replays(yard: Yard, digits: pipeline_pb2.PipelineResult) -> None:
    place = yard.folder / "mcu"
    status, told, said = yard.run("export", short(digits.model_version), "--target", "mcu", "--output", place)
    assert status in (0, 3), said
    assert (told["format"], told["precision"], told["latency_ms"]) == ("EDGE", "INT8", None)
    assert "no agent" in told["unmeasured_reason"]
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler is here")
    (place / "main.cc").write_text(
        '#include <cstdio>\n#include "model_data.h"\nint main() { fwrite(g_model, 1, g_model_length, stdout); return 0; }\n'
    )
    command = [compiler, "-std=c++17", "-Wall", "-Werror", "-o", "dump", "main.cc", "model_data.cc"]
    subprocess.run(command, cwd=place, check=True, capture_output=True)
    dumped = subprocess.run([place / "dump"], check=True, capture_output=True).stdout
    assert dumped == (place / "model.tflite").read_bytes()
    assert len(dumped) == told["bytes"]
    replayed = subprocess.run([sys.executable, "runner.py"], cwd=place, capture_output=True, text=True, check=False)
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def short(name: str) -> str:
    """models/digits/versions/V001 as people write it."""
    return "/".join(name.split("/")[3::2])


# Models from elsewhere


TINY = {"float": ("pretrainedResnet.tflite", "fp32"), "int8": ("pretrainedResnet_quant.tflite", "int8")}
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def answers(model: Path, pixels: np.ndarray) -> np.ndarray:
    """What a float .tflite says of uint8 pictures [N, H, W, C]."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model))
    interpreter.allocate_tensors()
    entering, leaving = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    said = []
    for one in pixels:
        interpreter.set_tensor(entering["index"], one[None].astype(np.float32))
        interpreter.invoke()
        said.append(int(interpreter.get_tensor(leaving["index"])[0].argmax()))
    return np.array(said)


@pytest.fixture(scope="module")
def cifar(yard: Yard, data_dir: Path) -> str:
    """Pictures labelled by what the float model itself says of them: a dataset that it can be scored on. Its version."""
    files = sorted(data_dir.glob("flowers128/*/*.jpg"))[::5]
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)) for path in files])
    labels = answers(data_dir / "models" / "mlperf_tiny" / TINY["float"][0], pixels)
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        if (labels == label).sum() >= 30:
            folder = yard.folder / "cifar" / CIFAR[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / f"{number:05}.png")
    imported = yard.run("dataset", "import", yard.folder / "cifar", "--name", "cifar")
    assert imported[0] == 0, imported
    published = yard.run("dataset", "publish", "cifar", "--train-ratio", "0.2")
    assert published[0] == 0, published
    return str(published[1]["name"])


@pytest.mark.data
@pytest.mark.parametrize("kind", ["float", "int8"])
def test_a_model_of_mlperf_tiny_is_imported_evaluated_judged_deployed_and_answers(
    yard: Yard, cifar: str, data_dir: Path, kind: str
) -> None:
    from tests.support.triton import triton

    name, precision = TINY[kind]
    options = ["--dataset-version", cifar, "--classes", ",".join(CIFAR), "--licence", "mlcommons/tiny, Apache-2.0"]
    status, told, said = yard.run("model", "import", data_dir / "models" / "mlperf_tiny" / name, *options)
    assert status == 0, said
    assert (told["origin"], told["precision"].lower(), told["model_version"]) == ("IMPORTED", precision, "")
    assert told["latency_ms"]["p95"] > 0
    endpoint = f"cifar-{kind}"
    status, deployed, said = yard.run("deploy", last_part(told["export"]), "--endpoint", endpoint)
    assert status == 0, (deployed, said)
    file = sorted((yard.folder / "cifar").glob("*/*.png"))[0]
    pixels = np.asarray(Image.open(file))[None]
    with triton.InferenceServerClient(yard.address) as client:
        tensor = triton.InferInput("image", list(pixels.shape), "UINT8")
        tensor.set_data_from_numpy(pixels)
        answer = client.infer(endpoint, [tensor])
    probabilities = answer.as_numpy("probabilities")[0]
    assert probabilities.shape == (10,)
    assert abs(probabilities.sum() - 1) < 0.05
    if kind == "float":
        assert answer.as_numpy("label")[0].decode() == file.parent.name
