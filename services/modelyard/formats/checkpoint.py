"""The checkpoint: everything a training run needs to go on as if it had never stopped. One safetensors file, never pickle.

    weights/NAME           the network's parameters and buffers
    average/NAME           their running mean, where the run keeps one
    best/NAME              those at the best validation so far, when that was not now
    optimizer/INDEX/KEY    the optimizer's tensors, by torch's index of the parameter
    random/torch, random/numpy, random/cuda/N    states of the random generators
    metadata "modelyard"   JSON: step, epoch, position in the epoch, schedule, settings, metrics, what of the above is no tensor

The order of the examples in an epoch is a function of the seed and the epoch (see recipes.augment), so the position is all
that is kept of it. Only the functions that end in _torch or touch generators import torch.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelyard.core.errors import DataLoss

FORMAT = 1
"""Version of the form; a reader refuses another."""

MAX_BYTES = 16 * 1024**3
"""Largest checkpoint that is read."""

Arrays = dict[str, npt.NDArray[Any]]

_METADATA = "modelyard"


@dataclass(frozen=True)
class Checkpoint:
    """A moment of a run. `tensors` are named as above; `state` holds JSON values."""

    tensors: Arrays
    state: Mapping[str, Any] = field(default_factory=dict)

    def group(self, prefix: str) -> Arrays:
        """The tensors under a prefix ("weights", "best"), without it."""
        start = f"{prefix}/"
        return {name.removeprefix(start): value for name, value in self.tensors.items() if name.startswith(start)}


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes it, visible only when it is whole (temporary name, fsync, rename)."""
    from safetensors.numpy import save

    tensors = {name: np.asarray(value, order="C") for name, value in sorted(checkpoint.tensors.items())}
    text = json.dumps({"format": FORMAT, "state": dict(checkpoint.state)}, sort_keys=True)
    data = save(tensors, metadata={_METADATA: text})
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads it; raises DataLoss with reason DAMAGED_CHECKPOINT when it is not whole or not a checkpoint of ours."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    state = read_state(path)
    try:
        return Checkpoint(dict(load_file(path)), state)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, str(error)) from error


def read_state(path: Path) -> Mapping[str, Any]:
    """The JSON state alone (step, epoch, metrics, settings...), without the tensors; raises as `read_checkpoint` does."""
    from safetensors import SafetensorError, safe_open

    try:
        if path.stat().st_size > MAX_BYTES:
            raise _damaged(path, f"it is larger than {MAX_BYTES} bytes")
        with safe_open(path, "np") as file:
            document = json.loads((file.metadata() or {})[_METADATA])
        state = document["state"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if document.get("format") != FORMAT or not isinstance(state, dict):
        raise _damaged(path, f"its format is {document.get('format')!r}; this version reads {FORMAT}")
    return state


def pack_torch(state: Mapping[str, Any], prefix: str) -> Arrays:
    """A torch state dict as arrays under a prefix: copies, so that later steps do not change them."""
    return {f"{prefix}/{name}": np.array(value.detach().cpu().numpy(), copy=True) for name, value in state.items()}


def unpack_torch(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Arrays as tensors of a torch state dict: copies."""
    import torch

    return {name: torch.from_numpy(np.array(value, copy=True)) for name, value in arrays.items()}


def pack_optimizer_torch(state: Mapping[str, Any]) -> tuple[Arrays, dict[str, Any]]:
    """What a torch optimizer has gathered (moments, counts): its tensors under optimizer/, the rest as JSON."""
    arrays: Arrays = {}
    rest: dict[str, Any] = {}
    for index, values in state["state"].items():
        for key, value in values.items():
            if hasattr(value, "detach"):
                arrays[f"optimizer/{index}/{key}"] = np.array(value.detach().cpu().numpy(), copy=True)
            else:
                rest.setdefault(str(index), {})[key] = value
    return arrays, rest


def unpack_optimizer_torch(checkpoint: Checkpoint) -> dict[int, dict[str, Any]]:
    """The `state` part of a torch optimizer's state dict, as `pack_optimizer_torch` took it."""
    state: dict[int, dict[str, Any]] = {}
    for name, value in unpack_torch(checkpoint.group("optimizer")).items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = value
    for index, values in dict(checkpoint.state.get("optimizer_rest", {})).items():
        state.setdefault(int(index), {}).update(values)
    return state


def random_state_torch() -> tuple[Arrays, dict[str, Any]]:
    """States of the generators of torch (with its GPUs), numpy and Python: arrays under random/, the rest as JSON."""
    import torch

    arrays: Arrays = {"random/torch": torch.get_rng_state().numpy().copy()}
    if torch.cuda.is_available():
        for number, value in enumerate(torch.cuda.get_rng_state_all()):
            arrays[f"random/cuda/{number}"] = value.numpy().copy()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    arrays["random/numpy"] = np.array(keys)
    version, internal, gauss = random.getstate()
    return arrays, {"numpy": [int(position), int(has_gauss), float(cached)], "python": [version, list(internal), gauss]}


def restore_random_state_torch(checkpoint: Checkpoint) -> None:
    """Puts the generators back to where `random_state_torch` found them; GPUs only when their number is the same."""
    import torch

    arrays = checkpoint.group("random")
    torch.set_rng_state(torch.from_numpy(np.array(arrays["torch"], copy=True)))
    devices = [arrays[name] for name in sorted(arrays) if name.startswith("cuda/")]
    if devices and torch.cuda.is_available() and torch.cuda.device_count() == len(devices):
        torch.cuda.set_rng_state_all([torch.from_numpy(np.array(each, copy=True)) for each in devices])
    rest = checkpoint.state["random"]
    position, has_gauss, cached = rest["numpy"]
    np.random.set_state(("MT19937", arrays["numpy"], position, has_gauss, cached))
    version, internal, gauss = rest["python"]
    random.setstate((version, tuple(internal), gauss))


def _damaged(path: Path, detail: str) -> DataLoss:
    return DataLoss("DAMAGED_CHECKPOINT", f"{path.name} is not a readable checkpoint: {detail}", file=path.name, detail=detail)
