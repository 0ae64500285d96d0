"""What a microcontroller needs beside model.tflite: the model as a C array, runners, and what memory it takes.

With an Arm Ethos-U the model is also compiled by Vela (the package ethos-u-vela), in a process of its own.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import FailedPrecondition, InvalidArgument
from modelyard.exporter.worker.edge_sound import sound_input
from modelyard.exporter.worker.tflite_file import FileFacts, arena_bytes, read_facts
from modelyard.formats.bundle import BundleCard
from modelyard.formats.bundle_files import TFLITE
from modelyard.formats.dataset_descriptor import AUDIO_CLASSIFICATION

Array = NDArray[Any]

VELA_MODEL: Final = "model_vela.tflite"
VECTOR_BYTES: Final = 64 * 1024
"""Test vectors inside the C source take at most about this much (but there is always one)."""
VELA_TIMEOUT_S: Final = 600.0
_TEMPLATES: Final = Path(__file__).parent / "edge_files"
_KIB: Final = 1024

RESOLVERS: Final[Mapping[str, str]] = {
    "ADD": "AddAdd",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "CONCATENATION": "AddConcatenation",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "DEQUANTIZE": "AddDequantize",
    "FULLY_CONNECTED": "AddFullyConnected",
    "HARD_SWISH": "AddHardSwish",
    "LEAKY_RELU": "AddLeakyRelu",
    "LOGISTIC": "AddLogistic",
    "MAXIMUM": "AddMaximum",
    "MAX_POOL_2D": "AddMaxPool2D",
    "MEAN": "AddMean",
    "MINIMUM": "AddMinimum",
    "MUL": "AddMul",
    "PAD": "AddPad",
    "PADV2": "AddPadV2",
    "QUANTIZE": "AddQuantize",
    "RELU": "AddRelu",
    "RELU6": "AddRelu6",
    "RESHAPE": "AddReshape",
    "SOFTMAX": "AddSoftmax",
    "SUB": "AddSub",
    "TANH": "AddTanh",
    "TRANSPOSE": "AddTranspose",
}
"""What tensorflow/lite/micro calls each operator."""


@dataclass(frozen=True)
class Footprint:
    """Memory a model takes on a device, in bytes: ram for activations, flash for the file. `source` says how it was found."""

    ram_bytes: int
    flash_bytes: int
    source: str


@dataclass(frozen=True)
class VelaReport:
    """What Vela says of the model it compiled; inference_ms and cycles are its own estimates."""

    model: bytes
    sram_bytes: int
    flash_bytes: int
    inference_ms: float
    cycles: int


def edge_files(model: bytes, card: BundleCard, pictures: NDArray[np.uint8], accelerator: str = "") -> dict[str, bytes]:
    """The files of an edge bundle beside model.tflite. pictures: examples for the test vectors in the C source.

    Raises InvalidArgument UNSUPPORTED_OPERATOR for an operator that tflite-micro lacks; FailedPrecondition VELA_FAILED.
    """
    facts = read_facts(model, TFLITE)
    check_operators(facts)
    report = vela(model, accelerator) if accelerator else None
    vectors = pictures[: max(1, min(len(pictures), VECTOR_BYTES // pictures[0].size))]
    files = {
        "model_data.h": _header(model, facts, card, len(vectors), report),
        "model_data.cc": _source(model, facts, card, vectors, _answers(model, vectors), report),
        "runner.py": (_TEMPLATES / "runner.py").read_text(),
        "runner.cc": _runner(facts),
        "README.txt": _readme(model, facts, card, accelerator, report),
    }
    if card.task == AUDIO_CLASSIFICATION:
        _, height, width, _ = facts.tensors[facts.inputs[0]].shape
        files["sound_input.h"] = sound_input(height, width)
    encoded = {name: text.encode() for name, text in files.items()}
    return encoded | ({VELA_MODEL: report.model} if report else {})


def check_operators(facts: FileFacts) -> None:
    """Raises InvalidArgument UNSUPPORTED_OPERATOR for an operator that tflite-micro lacks, with the layer that needs it."""
    for name, _, writes in facts.operators:
        if name not in RESOLVERS:
            layer = facts.tensors[writes[0]].name
            message = f"TensorFlow Lite for Microcontrollers has no operator {name} (it makes {layer})"
            raise InvalidArgument("UNSUPPORTED_OPERATOR", message, field="format", operator=name, layer=layer, format="edge")


def footprint(files: Mapping[str, bytes]) -> Footprint:
    """What an export takes on a device. files: by their names in a bundle; without a .tflite nothing is known of RAM."""
    if TFLITE not in files:
        return Footprint(0, sum(len(each) for each in files.values()), "the files; memory for activations is not known")
    model = files[TFLITE]
    flash = len(files.get(VELA_MODEL, model))
    return Footprint(arena_bytes(read_facts(model, TFLITE)), flash, "tensors alive at once in model.tflite")


def check_fits(files: Mapping[str, bytes], ram_bytes: int, flash_bytes: int) -> Footprint:
    """What the model takes. Raises FailedPrecondition MODEL_TOO_LARGE with the numbers; 0: no limit is known."""
    found = footprint(files)
    for name, needs, has in (("RAM", found.ram_bytes, ram_bytes), ("flash", found.flash_bytes, flash_bytes)):
        if has and needs > has:
            message = (
                f"the model needs about {needs} bytes of {name} ({found.source if name == 'RAM' else 'the model file'}), "
                f"the target has {has}"
            )
            raise FailedPrecondition("MODEL_TOO_LARGE", message, memory=name, needed=needs, available=has)
    return found


def vela(model: bytes, accelerator: str, timeout_s: float = VELA_TIMEOUT_S) -> VelaReport:
    """Compiles a model for an Arm Ethos-U, in a process of its own.

    Raises FailedPrecondition VELA_FAILED with its last words, VELA_NOT_INSTALLED, or VELA_TIMED_OUT.
    """
    if importlib.util.find_spec("ethosu") is None:
        message = "compiling for an Ethos-U needs the package ethos-u-vela: pip install modelyard[exporter]"
        raise FailedPrecondition("VELA_NOT_INSTALLED", message, accelerator=accelerator)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(model)
        done = _run_vela(folder, accelerator, timeout_s)
        compiled = folder / "model_vela.tflite"
        if done.returncode != 0 or not compiled.exists():
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip() and not line.startswith("Warning")]
            words = " ".join(said[-3:])[-300:]
            message = f"Vela could not compile the model for {accelerator}: {words}"
            raise FailedPrecondition("VELA_FAILED", message, accelerator=accelerator, status=done.returncode)
        return _report(folder, compiled.read_bytes())


def _run_vela(folder: Path, accelerator: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ethosu.vela", "model.tflite", "--accelerator-config", accelerator, "--output-dir", "."]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        message = f"Vela did not compile the model for {accelerator} within {timeout_s:g} s"
        raise FailedPrecondition("VELA_TIMED_OUT", message, accelerator=accelerator, seconds=timeout_s) from error


def _report(folder: Path, compiled: bytes) -> VelaReport:
    with next(folder.glob("*summary*.csv")).open(newline="") as stream:
        row = next(csv.DictReader(stream))
    kibibytes = float(row["on_chip_flash_memory_used"]) + float(row["off_chip_flash_memory_used"])
    return VelaReport(
        compiled,
        round(float(row["sram_memory_used"]) * _KIB),
        round(kibibytes * _KIB),
        float(row["inference_time"]) * 1000,
        round(float(row["cycles_total"])),
    )


def _answers(model: bytes, pictures: NDArray[np.uint8]) -> NDArray[np.int8]:
    """What LiteRT answers: int8 [N, classes]."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    entering, leaving = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    answers = []
    for picture in pictures:
        interpreter.set_tensor(entering["index"], (picture.astype(np.int16) - 128).astype(np.int8)[None])
        interpreter.invoke()
        answers.append(interpreter.get_tensor(leaving["index"])[0])
    return np.stack(answers)


def edge_probabilities(model: bytes, pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What LiteRT answers, as the probabilities it stands for: [N, classes]."""
    facts = read_facts(model, TFLITE)
    leaving = facts.tensors[facts.outputs[0]]
    return (_answers(model, pictures).astype(np.float64) - leaving.zero_point) * leaving.scale


def fnv1a(data: bytes) -> int:
    """The FNV-1a hash of 64 bits (http://www.isthe.com/chongo/tech/comp/fnv/): a few lines in any language."""
    value = 14695981039346656037
    for byte in data:
        value = ((value ^ byte) * 1099511628211) & 0xFFFFFFFFFFFFFFFF
    return value


def _lengths(model: bytes, report: VelaReport | None) -> str:
    """Length and hash of the array, which is another for an Ethos-U."""
    plain = (
        f"constexpr unsigned int kModelLength = {len(model)};\n"
        f"constexpr std::uint64_t kModelHash = {fnv1a(model)}ull;  // FNV-1a of the array\n"
    )
    return f"#ifdef MODEL_ETHOS_U\n{_lengths(report.model, None)}#else\n{plain}#endif\n" if report else plain


def _header(model: bytes, facts: FileFacts, card: BundleCard, vectors: int, report: VelaReport | None) -> str:
    entering, leaving = facts.tensors[facts.inputs[0]], facts.tensors[facts.outputs[0]]
    _, height, width, channels = entering.shape
    return f"""// {card.recipe or "A picture classifier"} of Modelyard, 8-bit integers. SHA-256 of model.tflite:
// {hashlib.sha256(model).hexdigest()}
#ifndef MODEL_DATA_H_
#define MODEL_DATA_H_

#include <cstdint>

{_lengths(model, report)}
// A picture has kHeight rows of kWidth pixels of kChannels bytes, 0 to 255. A byte enters as byte + kInputZeroPoint.
constexpr int kHeight = {height};
constexpr int kWidth = {width};
constexpr int kChannels = {channels};
constexpr int kInputLength = {height * width * channels};
constexpr float kInputScale = {entering.scale!r}f;
constexpr int kInputZeroPoint = {entering.zero_point};

// The probability of a class is (answer - kOutputZeroPoint) * kOutputScale.
constexpr int kClasses = {len(card.classes)};
constexpr float kOutputScale = {leaving.scale!r}f;
constexpr int kOutputZeroPoint = {leaving.zero_point};

// Activations alive at once, with the runtime's records; kernels' scratch memory comes on top.
constexpr unsigned int kArenaEstimate = {arena_bytes(facts)};

// Real examples with LiteRT's answers.
constexpr int kVectors = {vectors};

extern const unsigned char g_model[];
extern const unsigned int g_model_length;
extern const char* const g_labels[kClasses];
// An answer of at least this says that the class is there; below it the picture may show none of them.
extern const std::int8_t g_thresholds[kClasses];
extern const std::uint8_t g_inputs[kVectors][kInputLength];
extern const std::int8_t g_outputs[kVectors][kClasses];

#endif  // MODEL_DATA_H_
"""


def _source(
    model: bytes,
    facts: FileFacts,
    card: BundleCard,
    pictures: NDArray[np.uint8],
    answers: NDArray[np.int8],
    report: VelaReport | None,
) -> str:
    plain = _array(model)
    if report is not None:
        plain = f"#ifdef MODEL_ETHOS_U\n{_array(report.model)}#else\n{plain}#endif\n"
    labels = "".join(f"    {_c_text(each)},\n" for each in card.classes)
    thresholds = _integer_thresholds(card, facts)
    inputs = "".join(f"    {{{_numbers(each)}}},\n" for each in pictures)
    outputs = "".join(f"    {{{_numbers(each)}}},\n" for each in answers)
    return (
        f'#include "model_data.h"\n\n{plain}\n'
        f"const char* const g_labels[kClasses] = {{\n{labels}}};\n\n"
        f"const std::int8_t g_thresholds[kClasses] = {{{_numbers(thresholds)}}};\n\n"
        f"const std::uint8_t g_inputs[kVectors][kInputLength] = {{\n{inputs}}};\n\n"
        f"const std::int8_t g_outputs[kVectors][kClasses] = {{\n{outputs}}};\n"
    )


def _integer_thresholds(card: BundleCard, facts: FileFacts) -> NDArray[np.int8]:
    """The card's thresholds as the answers are: int8 [classes]; an even chance where the card has none."""
    leaving = facts.tensors[facts.outputs[0]]
    wanted = np.array(card.thresholds or (0.5,) * len(card.classes))
    answers: NDArray[np.int8] = np.clip(np.ceil(wanted / leaving.scale - 1e-9) + leaving.zero_point, -128, 127).astype(np.int8)
    return answers


def _array(data: bytes) -> str:
    rows = (", ".join(f"0x{byte:02x}" for byte in data[start : start + 16]) for start in range(0, len(data), 16))
    body = ",\n    ".join(rows)
    return (
        f"alignas(16) const unsigned char g_model[] = {{\n    {body}}};\nconst unsigned int g_model_length = sizeof(g_model);\n"
    )


def _numbers(values: Array) -> str:
    return ",".join(map(str, values.ravel().tolist()))


def _c_text(text: str) -> str:
    """A C string of UTF-8 bytes: whatever is no plain letter as three octal digits, which end where they end."""
    return '"' + "".join(chr(byte) if _is_plain(byte) else f"\\{byte:03o}" for byte in text.encode()) + '"'


def _is_plain(byte: int) -> bool:
    return 32 <= byte < 127 and chr(byte) not in '"\\?'


def _runner(facts: FileFacts) -> str:
    names = facts.operator_names
    calls = "\n".join(f"  resolver.{RESOLVERS[name]}();" for name in names)
    text = (_TEMPLATES / "runner.cc").read_text()
    return text.replace("@COUNT@", str(len(names) + 1)).replace("@OPERATORS@", calls)


def _readme(model: bytes, facts: FileFacts, card: BundleCard, accelerator: str, report: VelaReport | None) -> str:
    entering, leaving = facts.tensors[facts.inputs[0]], facts.tensors[facts.outputs[0]]
    size = " x ".join(map(str, entering.shape[1:]))
    lines = [
        f"{card.recipe or 'A picture classifier'} for microcontrollers: 8-bit integers throughout",
        "",
        f"Input      image, int8, {size} (height x width x channels); a pixel 0 to 255 enters as pixel - 128",
        f"           (scale {entering.scale:g}, zero point {entering.zero_point}); resize with antialiased bilinear",
        f"Output     {len(card.classes)} probabilities, int8: (answer - ({leaving.zero_point})) * {leaving.scale:g}",
        "Thresholds g_thresholds (model_data.cc, bundle.json): by class, the answer from which on it counts as found",
        f"Flash      {len(model)} bytes: model.tflite",
        f"RAM        about {arena_bytes(facts)} bytes: activations alive at once and records; scratch memory comes on top",
        f"Operators  {', '.join(facts.operator_names)}",
    ]
    if report is not None:
        lines += [
            f"Ethos-U    {accelerator}: model_vela.tflite, {len(report.model)} bytes. Vela's own estimates:",
            f"           {report.sram_bytes} bytes of SRAM, {report.flash_bytes} of flash, {report.cycles} cycles, "
            f"{report.inference_ms:.3f} ms an answer",
        ]
    if card.task == AUDIO_CLASSIFICATION:
        lines.append("Sounds     sound_input.h makes the picture from 16-bit samples at 8 or 16 kHz, in whole numbers (C)")
    lines += [
        "",
        "model.tflite              the model, for LiteRT and TensorFlow Lite for Microcontrollers",
        "model_data.h, .cc         the same bytes as a C array aligned to 16, labels, scales and some test vectors",
        "runner.cc                 runs it with tflite-micro; with -DSELF_CHECK it checks the array and needs no library",
        "runner.py                 runs it with LiteRT and replays test_vectors.safetensors",
        "labels.txt                one class a line, in the order of the answers",
        "test_vectors.safetensors  real examples and the probabilities to expect",
        "",
    ]
    return "\n".join(lines)
