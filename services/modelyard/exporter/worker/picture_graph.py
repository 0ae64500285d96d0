"""Writes a network for pictures as one ONNX graph: uint8 [N, H, W, C] in, the answers of its task out.

torch's TorchScript exporter is tried first: for these networks it takes a second where the torch.export one takes ten to twenty.
A network it cannot trace goes through torch.export. Whichever wrote the graph, its answers are compared with the network's
before anything is kept. See docs/decisions/0008-onnx-export.md.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument
from modelyard.formats.checkpoint import unpack_torch
from modelyard.formats.dataset_descriptor import IMAGE_MULTILABEL, KEYPOINT_DETECTION, OBJECT_DETECTION, SEMANTIC_SEGMENTATION
from modelyard.formats.model import ModelFile, Normalization, PictureInput
from modelyard.recipes.build_detector import ServedDetector, build_detector
from modelyard.recipes.build_image import ServedImageModel, ServedMultilabel, build
from modelyard.recipes.build_keypoints import ServedKeypoints, build_keypoints
from modelyard.recipes.build_segmenter import ServedSegmenter, build_segmenter

OPSET: Final = 18
IMAGE: Final = "image"


def served_model(file: ModelFile) -> ServedImageModel:
    """The network of a model file with its pre- and post-processing, ready to answer. Raises InvalidArgument BAD_MODEL."""
    card = file.card
    if card.input is None or card.normalization is None:
        raise InvalidArgument("BAD_MODEL", "the model card has no picture input", field="card.input")
    model = untrained_model(card.architecture, card.input, len(card.classes), card.normalization, card.task)
    try:
        model.module.load_state_dict(unpack_torch(file.tensors()), strict=True)
    except RuntimeError as error:
        message = f"the weights do not fit {card.architecture}: {str(error)[:300]}"
        raise InvalidArgument("BAD_MODEL", message, field="weights.safetensors", architecture=card.architecture) from error
    return model


def untrained_model(
    architecture: str,
    picture: PictureInput,
    classes: int,
    norm: Normalization | None = None,
    task: str = "image_classification",
) -> ServedImageModel:
    """A network with random weights in its served form, for measuring."""
    height, width, channels = picture.height, picture.width, picture.channels
    norm = norm or Normalization((0.5,) * channels, (0.25,) * channels)
    if task == OBJECT_DETECTION:
        detector = build_detector(architecture, classes=classes, channels=channels)
        return ServedDetector(detector, norm.mean, norm.std, classes).eval()
    if task == SEMANTIC_SEGMENTATION:
        return ServedSegmenter(build_segmenter(architecture, classes=classes, channels=channels), norm.mean, norm.std).eval()
    if task == KEYPOINT_DETECTION:
        points = build_keypoints(architecture, points=classes, channels=channels, height=height, width=width)
        return ServedKeypoints(points, norm.mean, norm.std, architecture, classes).eval()
    module = build(architecture, classes=classes, height=height, width=width, channels=channels)
    served = ServedMultilabel if task == IMAGE_MULTILABEL else ServedImageModel
    return served(module, norm.mean, norm.std).eval()


def image_graph(model: ServedImageModel, picture: PictureInput) -> bytes:
    """The ONNX file of a served network, batch size open. Raises InvalidArgument NOT_EXPORTABLE."""
    example = torch.zeros((2, picture.height, picture.width, picture.channels), dtype=torch.uint8)
    with _quiet():
        try:
            data = _trace(model, example)
        except Exception:  # the tracer raises whatever the network raises
            data = _export(model, example)
    onnx.checker.check_model(data)
    return data


def predict(model: ServedImageModel, pictures: NDArray[np.uint8], batch: int = 32) -> NDArray[np.float32]:
    """The first answer for uint8 [N, H, W, C], as torch computes it: of a classifier the probabilities."""
    return answers_of(model, pictures, batch)[model.output_names[0]]


def answers_of(model: ServedImageModel, pictures: NDArray[np.uint8], batch: int = 32) -> dict[str, NDArray[Any]]:
    """All answers for uint8 [N, H, W, C] by name, as torch computes them."""
    parts: list[tuple[torch.Tensor, ...]] = []
    with torch.inference_mode():
        for start in range(0, len(pictures), batch):
            said = model(torch.from_numpy(pictures[start : start + batch]))
            parts.append(said if isinstance(said, tuple) else (said,))
    return {name: np.concatenate([part[at].numpy() for part in parts]) for at, name in enumerate(model.output_names)}


def _trace(model: ServedImageModel, example: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    torch.onnx.export(
        model,
        (example,),
        buffer,  # type: ignore[arg-type]  # this exporter writes to any binary file
        dynamo=False,
        input_names=[IMAGE],
        output_names=list(model.output_names),
        dynamic_axes={name: {0: "N"} for name in (IMAGE, *model.output_names)},
        opset_version=OPSET,
        verbose=False,
    )
    return buffer.getvalue()


def _export(model: ServedImageModel, example: torch.Tensor) -> bytes:
    try:
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            input_names=[IMAGE],
            output_names=list(model.output_names),
            dynamic_shapes={IMAGE: {0: torch.export.Dim("N")}},
            opset_version=OPSET,
            verbose=False,
        )
    except Exception as error:
        message = f"torch cannot write this network as ONNX: {str(error)[:300]}"
        raise InvalidArgument("NOT_EXPORTABLE", message, field="architecture") from error
    if program is None:
        raise InvalidArgument("NOT_EXPORTABLE", "torch gave no ONNX program", field="architecture")
    data: bytes = program.model_proto.SerializeToString(deterministic=True)
    return data


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.onnx prints and warns a lot; none of it is for whoever reads the worker's log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
