"""Model files that are never read, told by their bytes and by their names: what they are, why not, and what to give instead.

Reading a pickle runs whatever code is in it, and many formats are pickles inside: torch's .pt and .pth, joblib's, TorchScript's
constants. Keras files hold Python in Lambda layers. So none of them is opened; a look at the first bytes, and of a zip at the
names of its members, is enough to say what a file is.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HEAD: Final = 512
_TORCH: Final = "load it where it was made, and write it with torch.onnx.export (.onnx) or torch.export.save (.pt2)"
_KERAS: Final = "convert it where it was made, with model.export and tf.lite.TFLiteConverter (.tflite) or tf2onnx (.onnx)"
_ANY: Final = "convert it where it was made, to .onnx, .tflite or .pt2"
_SKLEARN: Final = "load it where it was made, and write it with skl2onnx (.onnx)"


@dataclass(frozen=True)
class Foreign:
    """What a file is, to be read after "is", with the reason why it is not taken; and what to do instead."""

    what: str
    instead: str


PICKLE: Final = Foreign("a pickle, which runs code when it is read", _SKLEARN)
TORCH: Final = Foreign("a torch file of pickles, which run code when they are read", _TORCH)
TORCHSCRIPT: Final = Foreign("a TorchScript archive, which holds code and pickles", _TORCH)
KERAS: Final = Foreign("a Keras file, whose Lambda layers are Python code", _KERAS)
HDF5: Final = Foreign("an HDF5 file (Keras' older form), whose Lambda layers are Python code", _KERAS)
CORE_ML: Final = Foreign("a Core ML model, which only Apple's devices run and whose custom layers are code", _ANY)
PROGRAM: Final = Foreign("a program or shared library", _ANY)
WEIGHTS: Final = Foreign("weights without a graph", _ANY)
COMPRESSED: Final = Foreign(
    "a compressed archive, which is not unpacked here", "unpack it, and give the model file that is in it"
)
ENGINE: Final = Foreign("an engine compiled for one GPU, which is native code", "give the .onnx file that it was compiled from")
GRAPH: Final = Foreign("a TensorFlow graph without its signature", _KERAS)

BY_ENDING: Final = {
    **dict.fromkeys((".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle"), PICKLE),
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".mar", ".nemo"), TORCH),
    **dict.fromkeys((".ptl", ".torchscript"), TORCHSCRIPT),
    **dict.fromkeys((".h5", ".hdf5"), HDF5),
    ".keras": KERAS,
    **dict.fromkeys((".mlmodel", ".mlpackage", ".mlmodelc"), CORE_ML),
    **dict.fromkeys((".so", ".dll", ".dylib", ".exe", ".py", ".jar"), PROGRAM),
    **dict.fromkeys((".engine", ".plan", ".trt"), ENGINE),
    **dict.fromkeys((".safetensors", ".bin", ".npz", ".npy", ".gguf", ".caffemodel", ".params"), WEIGHTS),
    ".pb": GRAPH,
    **dict.fromkeys((".gz", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"), COMPRESSED),
}


def foreign_file(path: Path) -> Foreign | None:
    """What the file at `path` is by its bytes; None for what is not known to be wrong."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head.startswith(b"PK\x03\x04"):
        return next((foreign for matches, foreign in _HEADS if matches(head)), None)
    try:
        with zipfile.ZipFile(path) as archive:
            return foreign_zip(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return None


def refusal(name: str, path: Path | None = None) -> Foreign | None:
    """Why a file called `name` is not taken: by its bytes, where it is at hand, and by the ending of its name."""
    return (foreign_file(path) if path else None) or BY_ENDING.get(Path(name.lower()).suffix)


def foreign_zip(members: Sequence[str]) -> Foreign | None:
    """What a zip file with such members is."""
    names = [name.rpartition("/")[2] for name in members]
    inside = {part for name in members for part in name.split("/")[:-1]}
    if "archive_format" in names:  # torch.export.save: no pickle of it is read (runtime/torch_program.py)
        return None
    if "constants.pkl" in names or ("code" in inside and "data.pkl" in names):
        return TORCHSCRIPT
    if any(name.endswith((".pkl", ".pickle")) for name in names):
        return TORCH
    if "model.weights.h5" in names or ("config.json" in names and any(name.endswith(".h5") for name in names)):
        return KERAS
    return CORE_ML if any(name.endswith(".mlmodel") for name in names) else None


def _is_pickle(head: bytes) -> bool:
    """Protocol 2 and later begin with their number; those before are text, which an object of a module begins like this."""
    old = (b"ccopy_reg\n", b"c__builtin__\n", b"cbuiltins\n", b"cposix\n", b"cos\n", b"(dp", b"(lp")
    return (len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5) or head.startswith(old)


_HEADS: Final[tuple[tuple[Callable[[bytes], bool], Foreign], ...]] = (
    (_is_pickle, PICKLE),
    (lambda head: head.startswith(b"\x89HDF\r\n\x1a\n"), HDF5),
    (lambda head: head.startswith((b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"#!")), PROGRAM),
    (lambda head: head.startswith((b"GGUF", b"\x93NUMPY")), WEIGHTS),
    (lambda head: head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!", b"\x28\xb5\x2f\xfd")), COMPRESSED),
    (lambda head: head[257:262] == b"ustar", COMPRESSED),
)
