"""What a model is and what it has done, as documents: one source for the messages of gRPC and the JSON of HTTP.

Whole numbers stand as numbers, enumerations by their names, as the protocol has them over HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from modelyard.formats.bundle import TensorSpec
from modelyard.serving.domain.endpoint import Condition, DeploymentState
from modelyard.serving.domain.names import numbered_version
from modelyard.serving.domain.version_statistics import VersionStatistics
from modelyard.serving.handlers.registry import Entry, Registry
from modelyard.serving.ports import ServedModel
from modelyard.serving.rpc.signature import InputRule, Signature, signature

SERVER: Final = "modelyard"
EXTENSIONS: Final = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "statistics",
)
RUNTIMES: Final = {
    "onnx": ("onnxruntime_onnx", "onnxruntime"),
    "savedmodel": ("tensorflow_savedmodel", "tensorflow"),
    "litert": ("litert", "litert"),
    "edge": ("litert", "litert"),
    "torch_export": ("torch_export", "pytorch"),
}
"""Platform and backend by the format of the bundle; where they have a name in Triton, that."""
_STATES: Final = {
    DeploymentState.READY: "READY",
    DeploymentState.LOADING: "LOADING",
    DeploymentState.FAILED: "UNAVAILABLE",
    DeploymentState.UNHEALTHY: "UNAVAILABLE",
    DeploymentState.UNLOADED: "UNAVAILABLE",
}


def server_metadata() -> dict[str, Any]:
    """Who the server is."""
    return {"name": SERVER, "version": _version(), "extensions": list(EXTENSIONS)}


def model_metadata(registry: Registry, entry: Entry, model: ServedModel) -> dict[str, Any]:
    """Versions, inputs and outputs; the first dimension is the number of examples."""
    return {
        "name": entry.model,
        "versions": [other.version for other in registry.versions(entry.model) if other.loaded],
        "platform": runtime_of(model)[0],
        "inputs": _tensors(model.card.inputs),
        "outputs": _tensors(model.card.served_outputs),
    }


def model_config(entry: Entry, model: ServedModel, max_batch: int) -> dict[str, Any]:
    """What callers that batch need to know. All bundles take batches, so dims leave out the first dimension."""
    rules = signature(entry.model, entry.version, model.card, max_batch)
    platform, backend = runtime_of(model)
    config: dict[str, Any] = {
        "name": entry.model,
        "platform": platform,
        "backend": backend,
        "version_policy": {"all": {}},
        "max_batch_size": max_batch,
        "input": [_config_input(rule) for rule in rules.inputs.values()],
        "output": _config_outputs(rules),
        "instance_group": [{"name": entry.model, "kind": "KIND_CPU", "count": 1}],
        "parameters": {"threads": {"string_value": str(model.threads)}, **_classes(model)},
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": False},
    }
    if model.batching.together:
        config["dynamic_batching"] = {"max_queue_delay_microseconds": 0}
    return config


def _classes(model: ServedModel) -> dict[str, Any]:
    """The names of the classes as a JSON list: an answer may hold their numbers alone."""
    names = model.card.classes
    return {"classes": {"string_value": json.dumps(list(names), ensure_ascii=False)}} if names else {}


def model_statistics(entry: Entry, model: ServedModel) -> dict[str, Any]:
    """What a version has done since it was loaded. Its version is told as a number: perf_analyzer stops at anything else."""
    counted = model.statistics
    return {
        "name": entry.model,
        "version": numbered_version(entry.version),
        "last_inference": counted.last_inference_ms,
        "inference_count": counted.examples,
        "execution_count": counted.executions,
        "inference_stats": _request_times(counted),
        "batch_stats": [_batch(size, *sums) for size, sums in sorted(counted.batches.items())],
        "memory_usage": [{"type": "CPU", "id": 0, "byte_size": model.memory_bytes()}],
        "response_stats": {},
    }


def statistics_of(registry: Registry, model: str, version: str) -> list[dict[str, Any]]:
    """Of the versions in memory: one, all of a model, or of all models where no name is given. Raises as Registry.find."""
    if model and version:
        return [model_statistics(*registry.find(model, version))]
    if model:
        registry.find(model, "")
    entries = registry.versions(model) if model else registry.entries()
    return [model_statistics(entry, entry.loaded) for entry in entries if entry.loaded is not None]


def repository_index(entries: Iterable[Entry], *, only_ready: bool) -> list[dict[str, Any]]:
    """Every version of every model with its state."""
    return [_indexed(entry, entry.health) for entry in entries if entry.is_ready or not only_ready]


def runtime_of(model: ServedModel) -> tuple[str, str]:
    """Platform and backend."""
    form = model.card.format
    return RUNTIMES.get(form, (form, form))


def _indexed(entry: Entry, health: Condition) -> dict[str, Any]:
    return {"name": entry.model, "version": entry.version, "state": _STATES[health.state], "reason": health.message}


def _tensors(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]


def _config_input(rule: InputRule) -> dict[str, Any]:
    made = {"name": rule.spec.name, "data_type": _data_type(rule.datatype), "dims": list(rule.trailing)}
    return {**made, "format": "FORMAT_NHWC"} if rule.takes_files else made


def _config_outputs(rules: Signature) -> list[dict[str, Any]]:
    return [{"name": spec.name, "data_type": _data_type(spec.datatype), "dims": list(spec.shape[1:])} for spec in rules.outputs]


def _data_type(datatype: str) -> str:
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def _request_times(counted: VersionStatistics) -> dict[str, Any]:
    answered = counted.successes
    return {
        "success": _duration(answered, counted.success_ns),
        "fail": _duration(counted.failures, counted.failure_ns),
        "queue": _duration(answered, counted.queue_ns),
        "compute_input": _duration(answered, counted.compute_input_ns),
        "compute_infer": _duration(answered, counted.compute_infer_ns),
        "compute_output": _duration(answered, counted.compute_output_ns),
        "cache_hit": _duration(0, 0),
        "cache_miss": _duration(0, 0),
    }


def _batch(size: int, count: int, compute_input: int, compute_infer: int, compute_output: int) -> dict[str, Any]:
    return {
        "batch_size": size,
        "compute_input": _duration(count, compute_input),
        "compute_infer": _duration(count, compute_infer),
        "compute_output": _duration(count, compute_output),
    }


def _duration(count: int, nanoseconds: int) -> dict[str, int]:
    return {"count": count, "ns": nanoseconds}


@cache
def _version() -> str:
    try:
        return version("modelyard")
    except PackageNotFoundError:
        return "unknown"
