"""Instance flavors: the sizes of machine that a job may ask for by name, as in an instance list.

A file (YAML or JSON, MODELYARD_FLAVORS) holds them:

    - {name: cpu-small, description: Two cores, cpu: "2", memory: 4Gi}
    - {name: gpu-1, description: One GPU, cpu: "8", memory: 32Gi, gpu: 1, node_selector: {pool: gpu}, default_for: [training]}

The first is the default one. Without a file there is `local`: this machine.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from modelyard.core.errors import InvalidArgument

LOCAL: Final = "local"
MOST_FLAVORS: Final = 200
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_FACTORS: Final = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip


@dataclass(frozen=True)
class Flavor:
    """A size of machine.

    cpu: cores ("2", "500m"). memory, disk, shared_memory: bytes as Kubernetes writes them ("4Gi"); disk is the work folder,
    shared_memory is /dev/shm and counts as memory; empty: half of the memory. gpu: devices of gpu_resource, 0 to 64, on each
    node. nodes: 1 to 256; min_nodes: with how many of them a distributed job goes on, 1 to nodes. max_seconds: longest run
    of an attempt once it has a node, 0 for no limit; max_wait_seconds: longest wait for a node, 0 for no limit.
    image: in place of the service's worker image. queue: Kueue's LocalQueue, in place of the service's.
    default_for: kinds of jobs that get it when they name none.
    """

    name: str
    description: str = ""
    cpu: str = "1"
    memory: str = "2Gi"
    disk: str = "20Gi"
    shared_memory: str = ""
    gpu: int = 0
    gpu_resource: str = "nvidia.com/gpu"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    nodes: int = 1
    min_nodes: int = 0
    image: str = ""
    max_seconds: int = 0
    max_wait_seconds: int = 0
    queue: str = ""
    priority_class: str = ""
    runtime_class: str = ""
    default_for: Sequence[str] = ()

    @property
    def cores(self) -> float:
        """Cores of one node."""
        return quantity(self.cpu)

    @property
    def memory_bytes(self) -> int:
        """Memory of one node in bytes."""
        return int(quantity(self.memory))

    @property
    def least_nodes(self) -> int:
        """With how many nodes a distributed job goes on."""
        return self.min_nodes or self.nodes


class Flavors:
    """The flavors of a service, in the order of its file."""

    def __init__(self, known: Sequence[Flavor]) -> None:
        self.known = tuple(known)

    def default(self, kind: str) -> Flavor:
        """What jobs of a kind get that name none."""
        return next((flavor for flavor in self.known if kind in flavor.default_for), self.known[0])

    def choose(self, name: str, kind: str, *, distributed: bool, field: str = "instance_flavor") -> Flavor:
        """The flavor of this name, "" for the default one. Raises InvalidArgument UNKNOWN_INSTANCE_FLAVOR, FLAVOR_HAS_NODES."""
        flavor = next((flavor for flavor in self.known if flavor.name == name), None) if name else self.default(kind)
        if flavor is None:
            names = ", ".join(flavor.name for flavor in self.known)
            message = f"{field} is {name[:80]!r}; it must be one of {names}, or empty for {self.default(kind).name}"
            raise InvalidArgument("UNKNOWN_INSTANCE_FLAVOR", message, field=field, value=name[:80], known=names)
        if flavor.nodes > 1 and not distributed:
            fitting = ", ".join(flavor.name for flavor in self.known if flavor.nodes == 1)
            message = f"{field} is {name!r}, which has {flavor.nodes} nodes; jobs of this kind run on one: {fitting}"
            raise InvalidArgument("FLAVOR_HAS_NODES", message, field=field, value=name, nodes=flavor.nodes)
        return flavor

    def of(self, name: str, kind: str) -> Flavor:
        """The flavor a stored job was given; the default one where it is no longer in the file."""
        return next((flavor for flavor in self.known if flavor.name == name), self.default(kind))

    def larger(self, flavor: Flavor) -> Flavor | None:
        """The cheapest flavor with more memory and no fewer GPUs and nodes; None when there is none."""
        more = [
            other
            for other in self.known
            if other.memory_bytes > flavor.memory_bytes and other.gpu >= flavor.gpu and other.nodes >= flavor.nodes
        ]
        return min(more, key=lambda other: (other.gpu, other.nodes, other.memory_bytes), default=None)


def load_flavors(path: Path | None) -> Flavors:
    """The flavors of a file; without one, `local`. Raises InvalidArgument BAD_FLAVORS_FILE, INVALID_FLAVOR."""
    if path is None:
        return Flavors([local_flavor()])
    found = _read(path)
    entries = found.get("flavors") if isinstance(found, Mapping) else found
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST_FLAVORS:
        raise _bad_file(path, f"it must hold a list of 1 to {MOST_FLAVORS} flavors")
    flavors = [_flavor(entry, f"flavors[{index}]") for index, entry in enumerate(entries)]
    names = [flavor.name for flavor in flavors]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise _invalid(f"flavors[{index}].name", name, "a name that no other flavor has")
    return Flavors(flavors)


def local_flavor() -> Flavor:
    """This machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Flavor(LOCAL, "This machine", cpu=str(os.cpu_count() or 1), memory=f"{memory >> 20}Mi", disk="")


def quantity(text: str) -> float:
    """A quantity as Kubernetes writes it: "500m" is 0.5, "4Gi" is 4 * 2**30. Raises ValueError."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return float(match[1]) * _FACTORS[match[2] or ""]


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _bad_file(path, f"it cannot be read: {error}") from error
    try:
        return json.loads(text) if path.suffix == ".json" else _yaml(text)
    except ValueError as error:
        raise _bad_file(path, f"it is neither YAML nor JSON: {error}") from error


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _flavor(entry: Any, path: str) -> Flavor:
    if not isinstance(entry, Mapping):
        raise _invalid(path, entry, "a mapping with at least a name")
    known = {item.name for item in fields(Flavor)}
    for key in entry:
        if key not in known:
            raise _invalid(f"{path}.{key}", entry[key], f"left out: the fields are {', '.join(sorted(known))}")
    values = {key: value for key, value in entry.items() if value is not None}
    _check_texts(values, path)
    _check_numbers(values, path)
    _check_placement(values, path)
    flavor = Flavor(**values)
    if flavor.min_nodes > flavor.nodes:
        raise _invalid(f"{path}.min_nodes", flavor.min_nodes, f"at most nodes, which is {flavor.nodes}")
    return flavor


def _check_texts(values: dict[str, Any], path: str) -> None:
    name = values.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _invalid(f"{path}.name", name, "1 to 63 of a-z, 0-9 and '-', starting with a letter")
    for key in ("cpu", "memory", "disk", "shared_memory"):
        values[key] = text = str(values.get(key, getattr(Flavor, key)))
        if (text and not _QUANTITY.fullmatch(text)) or (not text and key in ("cpu", "memory")):
            raise _invalid(f"{path}.{key}", text, 'a quantity such as "2", "500m" or "4Gi"')
        if text and quantity(text) <= 0:
            raise _invalid(f"{path}.{key}", text, "more than 0")
    for key in ("description", "gpu_resource", "image", "queue", "priority_class", "runtime_class"):
        if not isinstance(values.get(key, ""), str) or len(values.get(key, "")) > 1000:
            raise _invalid(f"{path}.{key}", values[key], "text of at most 1000 characters")


def _check_numbers(values: Mapping[str, Any], path: str) -> None:
    bounds = {"gpu": (0, 64), "nodes": (1, 256), "min_nodes": (0, 256), "max_seconds": (0, 31_536_000)}
    for key, (least, most) in {**bounds, "max_wait_seconds": (0, 31_536_000)}.items():
        value = values.get(key, least)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise _invalid(f"{path}.{key}", value, f"a whole number, {least} to {most}")


def _check_placement(values: dict[str, Any], path: str) -> None:
    selector = values.get("node_selector", {})
    if not isinstance(selector, Mapping) or not all(isinstance(part, str) for pair in selector.items() for part in pair):
        raise _invalid(f"{path}.node_selector", selector, "a mapping from label to value, both texts (quote true and numbers)")
    tolerations = values.get("tolerations", [])
    if not isinstance(tolerations, list) or not all(isinstance(item, Mapping) for item in tolerations):
        raise _invalid(f"{path}.tolerations", tolerations, "a list of mappings with key, operator, value, effect")
    kinds = values.get("default_for", [])
    if not isinstance(kinds, list) or not all(isinstance(item, str) for item in kinds):
        raise _invalid(f"{path}.default_for", kinds, "a list of kinds of jobs, such as [training]")


def _bad_file(path: Path, why: str) -> InvalidArgument:
    return InvalidArgument("BAD_FLAVORS_FILE", f"MODELYARD_FLAVORS is {path}; {why}", field="flavors", value=path)


def _invalid(path: str, value: object, right: str) -> InvalidArgument:
    shown = repr(value)[:200]
    return InvalidArgument("INVALID_FLAVOR", f"{path} is {shown}; it must be {right}", field=path, value=shown)
