"""The reference of the contracts, made of the protos and their comments: a page for each package."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import descriptor_pb2
from markdown_text import plain

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"
GOOGLE = Path(sysconfig.get_paths()["purelib"])
SCALARS = {number: name.removeprefix("TYPE_").lower() for name, number in descriptor_pb2.FieldDescriptorProto.Type.items()}
MESSAGE, ENUM, SERVICE, METHOD, FIELD, VALUE, NESTED, NESTED_ENUM = 4, 5, 6, 2, 2, 2, 3, 4
"""Numbers of the fields in descriptor.proto, of which the paths of comments are made."""


@dataclass(frozen=True)
class Entry:
    """A thing of a contract. `kind`: service, rpc, message, field, enum or value; `name` is full; `said` is its comment."""

    kind: str
    name: str
    said: str
    detail: str = ""
    file: str = ""

    @property
    def short(self) -> str:
        return self.name.rpartition(".")[2]


def descriptors() -> descriptor_pb2.FileDescriptorSet:
    """All contracts of this repository with their comments, as protoc reads them."""
    files = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set.binpb"
        protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{GOOGLE}", "--include_source_info"]
        subprocess.run([*protoc, f"--descriptor_set_out={out}", *files], check=True)
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


def entries(found: descriptor_pb2.FileDescriptorSet) -> Iterator[Entry]:
    """Everything that the contracts hold, in their order."""
    for file in found.file:
        said = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
        for at, service in enumerate(file.service):
            name = f"{file.package}.{service.name}"
            yield Entry("service", name, said.get((SERVICE, at), ""), file=file.name)
            for number, method in enumerate(service.method):
                yield Entry("rpc", f"{name}.{method.name}", said.get((SERVICE, at, METHOD, number), ""), _call(method), file.name)
        for at, message in enumerate(file.message_type):
            yield from _message(file, message, (MESSAGE, at), file.package, said)
        for at, enum in enumerate(file.enum_type):
            yield from _enum(file, enum, (ENUM, at), file.package, said)


def _message(
    file: descriptor_pb2.FileDescriptorProto,
    message: descriptor_pb2.DescriptorProto,
    path: tuple[int, ...],
    parent: str,
    said: dict[tuple[int, ...], str],
) -> Iterator[Entry]:
    if message.options.map_entry:
        return
    name = f"{parent}.{message.name}"
    yield Entry("message", name, said.get(path, ""), file=file.name)
    maps = {f".{name}.{nested.name}": nested for nested in message.nested_type if nested.options.map_entry}
    for at, field in enumerate(message.field):
        yield Entry("field", f"{name}.{field.name}", said.get((*path, FIELD, at), ""), _type(field, maps), file.name)
    for at, nested in enumerate(message.nested_type):
        yield from _message(file, nested, (*path, NESTED, at), name, said)
    for at, enum in enumerate(message.enum_type):
        yield from _enum(file, enum, (*path, NESTED_ENUM, at), name, said)


def _enum(
    file: descriptor_pb2.FileDescriptorProto,
    enum: descriptor_pb2.EnumDescriptorProto,
    path: tuple[int, ...],
    parent: str,
    said: dict[tuple[int, ...], str],
) -> Iterator[Entry]:
    name = f"{parent}.{enum.name}"
    yield Entry("enum", name, said.get(path, ""), file=file.name)
    for at, value in enumerate(enum.value):
        yield Entry("value", f"{name}.{value.name}", said.get((*path, VALUE, at), ""), str(value.number), file.name)


def _type(field: descriptor_pb2.FieldDescriptorProto, maps: dict[str, descriptor_pb2.DescriptorProto]) -> str:
    if field.type_name in maps:
        key, value = maps[field.type_name].field
        return f"map of {_type(key, {})} to {_type(value, {})}"
    name = field.type_name.lstrip(".") or SCALARS[field.type]
    shown = name.rpartition(".")[2] if not name.startswith("google.") else name
    return f"{shown}, repeated" if field.label == field.LABEL_REPEATED else shown


def _call(method: descriptor_pb2.MethodDescriptorProto) -> str:
    asked, answer = method.input_type.rpartition(".")[2], method.output_type.rpartition(".")[2]
    return f"{'stream ' * method.client_streaming}{asked} → {'stream ' * method.server_streaming}{answer}"


def pages(found: descriptor_pb2.FileDescriptorSet) -> dict[str, str]:
    """The pages by the name of their package."""
    by_package: dict[str, list[Entry]] = {}
    packages = {file.name: file.package for file in found.file}
    for entry in entries(found):
        by_package.setdefault(packages[entry.file], []).append(entry)
    return {package: _page(package, held) for package, held in sorted(by_package.items())}


def _page(package: str, held: list[Entry]) -> str:
    services = [entry for entry in held if entry.kind in ("service", "rpc")]
    rest = [entry for entry in held if entry.kind not in ("service", "rpc")]
    lines = [f"# {package}", "", f"Made from `protos/{package.replace('.', '/')}` when this site was built.", ""]
    for entry in services:
        if entry.kind == "service":
            lines += ["", f"## {entry.short}", "", plain(entry.said), "", "| method | takes and gives | |", "|---|---|---|"]
        else:
            lines.append(f"| `{entry.short}` | `{entry.detail}` | {plain(entry.said)} |")
    if services:
        lines.append("")
    for entry in rest:
        if entry.kind == "message":
            lines += ["", f"## {entry.name.removeprefix(package + '.')}", "", plain(entry.said), ""]
            if any(other.kind == "field" and other.name.rpartition(".")[0] == entry.name for other in rest):
                lines += ["| field | type | |", "|---|---|---|"]
        elif entry.kind == "enum":
            lines += ["", f"## {entry.name.removeprefix(package + '.')}", "", plain(entry.said), ""]
            lines += ["| value | number | |", "|---|---|---|"]
        else:
            lines.append(f"| `{entry.short}` | {entry.detail} | {plain(entry.said)} |")
    return "\n".join(lines) + "\n"
