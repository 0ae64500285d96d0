"""Reads a torch.export program (.pt2) without torch and without unpickling anything.

`torch.export.load` is not safe on bytes of strangers. As of torch 2.14 it unpickles the example inputs, weights and constants in
their older form, and everything that the archive's own tables mark as a pickle (first with `weights_only`, then without); it
hands the text of symbolic sizes to sympy's `sympify`, which evaluates it; and it looks up the functions to call by name from the
module `torch`, by way of which `torch.os.system` is one. So none of that is used. A .pt2 is a zip of a JSON document (the schema
torch/_export/serde/schema.py, major version 8) and raw tensors, of which this module reads what a network needs:

* `models/NAME.json`: the nodes in order. Only operators of torch_operators are taken, with arguments that are tensors, numbers,
  words and lists of those. No subgraphs, no custom objects, no code. Symbolic sizes are not read: they are hints.
* `data/weights/`, `data/constants/`: raw little-endian tensors, each within the bytes that are there.

Everything else in the archive (example inputs, compiled libraries) is left unread. docs/decisions/0012-runtimes.md.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelyard.runtime.torch_operators import IN_PLACE, OPERATORS, SIZE_OPERATORS

MAJOR_VERSION: Final = 8
MOST_NODES: Final = 100_000
MOST_JSON_BYTES: Final = 256 << 20
_LITTLE: Final = b"little"

DTYPES: Final[Mapping[int, tuple[str, int]]] = {
    1: ("uint8", 1),
    2: ("int8", 1),
    3: ("int16", 2),
    4: ("int32", 4),
    5: ("int64", 8),
    6: ("float16", 2),
    7: ("float32", 4),
    8: ("float64", 8),
    12: ("bool", 1),
    13: ("bfloat16", 2),
}
_BFLOAT16: Final = 13
"""torch's numbers of datatypes (schema.ScalarType): name and bytes of an element."""

_ATEN: Final = "torch.ops.aten."
_ASSERTION: Final = "_assert_tensor_metadata"
"""Says again what the tensors' datatypes are; not run."""
_PLAIN: Final = ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string", "as_strings", "as_int_lists")


class ProgramError(ValueError):
    """The bytes are no program that is taken; the text says why."""


class OperatorError(ProgramError):
    """The program uses an operator that is not in the list. `operator`: its name."""

    def __init__(self, operator: str) -> None:
        super().__init__(f"it uses the operator {operator[:80]!r}, which is not run here")
        self.operator = operator[:80]


@dataclass(frozen=True, slots=True)
class Name:
    """The value that an earlier step, an input, or a weight gave this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Typed:
    """An argument that torch has a type of its own for. kind: `dtype` (a key of DTYPES), `layout`, `memory_format`, `device`."""

    kind: str
    value: int


@dataclass(frozen=True)
class Step:
    """One call. operator: `aten` name with its overload ("relu.default") or one of SIZE_OPERATORS.

    arguments and keywords: numbers, words, None, Name, Typed, and tuples of those. outputs: the names its values get; an operator
    with several values has as many, "" for one that nobody uses; `many` where the operator gives a list.
    """

    operator: str
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    outputs: tuple[str, ...]
    many: bool


@dataclass(frozen=True)
class Stored:
    """A weight or constant: datatype (a key of DTYPES), sizes and strides in elements, where its first element is, its bytes."""

    dtype: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    data: bytes


@dataclass(frozen=True)
class Signature:
    """An input or output: its name in the program, numpy datatype, and sizes with -1 for one that is open."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """A network as steps. stored: the weights by the names that steps use."""

    inputs: tuple[Signature, ...]
    outputs: tuple[Signature, ...]
    steps: tuple[Step, ...]
    stored: Mapping[str, Stored]


def read_program(data: bytes) -> Program:
    """The program of a .pt2. Raises ProgramError, OperatorError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _program(Archive(archive))
    except ProgramError:
        raise
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise ProgramError(f"it is no torch.export program ({error!r:.120})") from error
    except (EOFError, NotImplementedError, RuntimeError, OverflowError, OSError) as error:
        raise ProgramError(f"its zip file cannot be read ({error!r:.120})") from error


class Archive:
    """The records of a .pt2: a zip, stored, every name below one folder whose name does not matter."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        """Raises ProgramError for names twice there, compressed records, and what is no .pt2."""
        self._archive = archive
        self._records: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            name = info.filename.partition("/")[2]
            if not name or name in self._records:
                raise ProgramError(f"its record {info.filename[:80]!r} is twice there or outside the archive's folder")
            self._records[name] = info
        if self.read("archive_format", 16).strip() != b"pt2":
            raise ProgramError("it is no .pt2 archive of torch.export.save")
        if "byteorder" in self._records and self.read("byteorder", 16).strip() != _LITTLE:
            raise ProgramError("its tensors are not little-endian")

    def read(self, name: str, most: int) -> bytes:
        """A record of at most `most` bytes. Raises ProgramError."""
        info = self._records.get(name)
        if info is None:
            raise ProgramError(f"it holds no {name[:80]!r}")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise ProgramError(f"its record {name[:80]!r} is compressed or encrypted")
        if info.file_size > most:
            raise ProgramError(f"its record {name[:80]!r} has {info.file_size} bytes, at most {most} are read")
        return self._archive.read(info)

    def document(self, name: str) -> dict[str, Any]:
        """A record of JSON."""
        document = json.loads(self.read(name, MOST_JSON_BYTES))
        if not isinstance(document, dict):
            raise ProgramError(f"its record {name[:80]!r} is no JSON object")
        return document

    def model(self) -> str:
        """The name of its only model."""
        models = [name for name in self._records if name.startswith("models/") and name.endswith(".json")]
        if len(models) != 1:
            raise ProgramError(f"it holds {len(models)} models; it must hold one")
        return models[0].removeprefix("models/").removesuffix(".json")


def _program(archive: Archive) -> Program:
    model = archive.model()
    document = archive.document(f"models/{model}.json")
    version = document["schema_version"]["major"]
    if version != MAJOR_VERSION:
        raise ProgramError(f"its schema has the version {version!r:.20}; version {MAJOR_VERSION} is read (torch 2.8 to 2.14)")
    module = document["graph_module"]
    graph = module["graph"]
    if graph.get("custom_obj_values"):
        raise ProgramError("it holds custom objects, which are pickles and can hold code")
    stored, inputs = _inputs(archive, model, module["signature"]["input_specs"], graph)
    if len(graph["nodes"]) > MOST_NODES:
        raise ProgramError(f"it has {len(graph['nodes'])} nodes, at most {MOST_NODES} are read")
    read = (_step(node) for node in graph["nodes"])
    steps = tuple(step for step in read if step.operator.partition(".")[0] != _ASSERTION)
    outputs = tuple(_output(spec, graph) for spec in module["signature"]["output_specs"])
    _check_names(steps, {*stored, *(each.name for each in inputs)}, outputs)
    return Program(inputs, outputs, steps, stored)


# Inputs and outputs


def _inputs(
    archive: Archive, model: str, specs: list[dict[str, Any]], graph: dict[str, Any]
) -> tuple[dict[str, Stored], tuple[Signature, ...]]:
    tables = {
        place: archive.document(f"data/{place}/model_{place}_config.json".replace("model_", f"{model}_")) for place in _PLACES
    }
    stored: dict[str, Stored] = {}
    inputs: list[Signature] = []
    for spec in specs:
        ((kind, value),) = spec.items()
        if kind == "user_input":
            inputs.append(_signature(value["arg"]["as_tensor"]["name"], graph))
        elif kind in _STORED:
            key, places = _STORED[kind]
            stored[_text(value["arg"]["name"])] = _stored(archive, tables, places, _text(value[key]))
        else:
            raise ProgramError(f"it takes an input of the kind {kind[:40]!r}; tensors are taken")
    return stored, tuple(inputs)


_PLACES: Final = ("weights", "constants")
_STORED: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "parameter": ("parameter_name", ("weights",)),
    "buffer": ("buffer_name", ("weights", "constants")),
    "tensor_constant": ("tensor_constant_name", ("constants",)),
}


def _output(spec: dict[str, Any], graph: dict[str, Any]) -> Signature:
    ((kind, value),) = spec.items()
    if kind != "user_output" or "as_tensor" not in value["arg"]:
        raise ProgramError(f"it gives an output of the kind {kind[:40]!r}; it must give tensors, and change nothing it was given")
    return _signature(value["arg"]["as_tensor"]["name"], graph)


def _signature(name: str, graph: dict[str, Any]) -> Signature:
    meta = graph["tensor_values"][_text(name)]
    sizes = tuple(_count(size["as_int"]) if "as_int" in size else -1 for size in meta["sizes"])
    if meta["dtype"] == _BFLOAT16:
        raise ProgramError(f"{name[:80]!r} is bfloat16, which nothing served is")
    return Signature(name, _dtype(meta["dtype"]), sizes)


# Weights


def _stored(archive: Archive, tables: Mapping[str, dict[str, Any]], places: tuple[str, ...], key: str) -> Stored:
    place = next((place for place in places if key in tables[place]["config"]), None)
    if place is None:
        raise ProgramError(f"it holds no values for {key[:80]!r}")
    entry = tables[place]["config"][key]
    meta = entry["tensor_meta"]
    if entry["use_pickle"] is not False or meta is None:
        raise ProgramError(f"its tensor {key[:80]!r} is a pickle, which can hold code")
    sizes, strides = (tuple(_count(each["as_int"]) for each in meta[field]) for field in ("sizes", "strides"))
    offset = _count(meta["storage_offset"]["as_int"])
    _dtype(meta["dtype"])
    data = archive.read(f"data/{place}/{_text(entry['path_name'])}", 2 << 30)
    if len(sizes) != len(strides) or len(sizes) > 8:
        raise ProgramError(f"its tensor {key[:80]!r} has {len(sizes)} sizes and {len(strides)} strides")
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if 0 not in sizes and (last + 1) * DTYPES[meta["dtype"]][1] > len(data):
        raise ProgramError(f"its tensor {key[:80]!r} reaches beyond its {len(data)} bytes")
    return Stored(meta["dtype"], sizes, strides, offset, data)


def _dtype(number: object) -> str:
    if type(number) is not int or number not in DTYPES:
        known = ", ".join(name for name, _ in DTYPES.values())
        raise ProgramError(f"it holds a tensor of the datatype {number!r:.20}; {known} are read")
    return DTYPES[number][0]


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 40:
        raise ProgramError(f"it holds {value!r:.40} where a size is expected")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise ProgramError(f"it holds {value!r:.40} where a name is expected")
    return value


# Steps


def _step(node: dict[str, Any]) -> Step:
    operator = _operator(_text(node["target"]))
    arguments: list[Any] = []
    keywords: dict[str, Any] = {}
    for given in node["inputs"]:
        value = _argument(given["arg"])
        if given.get("kind") == _KEYWORD or (keywords and given.get("kind") is None):
            keywords[_text(given["name"])] = value
        else:
            arguments.append(value)
    outputs, many = _outputs(node["outputs"])
    return Step(operator, tuple(arguments), keywords, outputs, many)


_KEYWORD: Final = 2


def _operator(target: str) -> str:
    if target in SIZE_OPERATORS:
        return target
    name, _, overload = target.removeprefix(_ATEN).partition(".")
    known = name in OPERATORS or name in IN_PLACE
    if not target.startswith(_ATEN) or not known or not overload.isidentifier() or "out" in overload:
        raise OperatorError(target)
    return f"{name}.{overload}"


def _outputs(given: list[dict[str, Any]]) -> tuple[tuple[str, ...], bool]:
    names: list[str] = []
    many = len(given) != 1
    for output in given:
        ((kind, value),) = output.items()
        if kind == "as_tensor":
            names.append(_text(value["name"]))
        elif kind == "as_tensors":
            many = True
            names += [_text(each["name"]) for each in value]
        elif kind == "as_sym_int":
            names.append(_text(value["as_name"]))
        elif kind == "as_none":
            names.append("")
        else:
            raise ProgramError(f"a node gives a value of the kind {kind[:40]!r}")
    return tuple(names), many


def _argument(given: dict[str, Any]) -> Any:
    ((kind, value),) = given.items()
    if kind in _PLAIN:
        return _plain(value)
    if kind in _ARGUMENTS:
        return _ARGUMENTS[kind](value)
    raise ProgramError(f"a node takes an argument of the kind {kind[:40]!r}")


def _plain(value: Any) -> Any:
    """Numbers, words, and lists of them as tuples."""
    if isinstance(value, list):
        return tuple(_plain(each) for each in value)
    if not isinstance(value, int | float | str):
        raise ProgramError(f"a node takes the argument {value!r:.40}")
    return value


def _sized(value: dict[str, Any]) -> Any:
    return Name(_text(value["as_name"])) if "as_name" in value else int(value["as_int"])


def _optional(value: dict[str, Any]) -> Name | None:
    return Name(_text(value["as_tensor"]["name"])) if "as_tensor" in value else None


_ARGUMENTS: Final[Mapping[str, Any]] = {
    "as_none": lambda value: None,
    "as_tensor": lambda value: Name(_text(value["name"])),
    "as_tensors": lambda value: tuple(Name(_text(each["name"])) for each in value),
    "as_optional_tensor": _optional,
    "as_optional_tensors": lambda value: tuple(_optional(each) for each in value),
    "as_sym_int": _sized,
    "as_sym_ints": lambda value: tuple(_sized(each) for each in value),
    "as_scalar_type": lambda value: Typed("dtype", _known(value)),
    "as_layout": lambda value: Typed("layout", int(value)),
    "as_memory_format": lambda value: Typed("memory_format", int(value)),
    "as_device": lambda value: Typed("device", 0),
}


def _known(value: object) -> int:
    _dtype(value)
    assert isinstance(value, int)  # _dtype has seen to it; for the type checker
    return value


# Names


def _check_names(steps: tuple[Step, ...], given: set[str], outputs: tuple[Signature, ...]) -> None:
    """Every value is computed before it is used, once, and what is given is neither changed nor given back."""
    computed: set[str] = set()
    for step in steps:
        used = [*_names(step.arguments), *_names(tuple(step.keywords.values()))]
        missing = next((name for name in used if name not in computed and name not in given), None)
        if missing is not None:
            raise ProgramError(f"a node uses {missing[:80]!r} before it is computed")
        name = step.operator.partition(".")[0]
        if name in IN_PLACE and not (used and used[0] in computed):
            raise ProgramError(f"its operator {name} changes a value that was given")
        for output in filter(None, step.outputs):
            if output in computed or output in given:
                raise ProgramError(f"two nodes give {output[:80]!r}")
            computed.add(output)
    for signature in outputs:
        if signature.name not in computed:
            raise ProgramError(f"its output {signature.name[:80]!r} is not computed")


def _names(values: tuple[Any, ...]) -> Iterator[str]:
    for value in values:
        if isinstance(value, Name):
            yield value.name
        elif isinstance(value, tuple):
            yield from _names(value)
