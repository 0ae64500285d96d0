"""torch.export programs: read without unpickling, evaluating or looking anything up; what could do so is refused."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard.core.errors import InvalidArgument
from modelyard.formats.bundle import open_bundle
from modelyard.runtime.model import load_model
from modelyard.runtime.torch_operators import OPERATORS
from modelyard.runtime.torch_program import OperatorError, ProgramError, read_program
from tests.support.pt2_files import CONSTANTS, MODEL, WEIGHTS, archive_of, changed, nodes_of, records_of
from tests.support.runtime_bundles import expected, pictures, runtime_bundle, torch_export_files

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def program() -> bytes:
    return torch_export_files()["model.pt2"]


def refusal(data: bytes) -> ProgramError:
    with pytest.raises(ProgramError) as caught:
        read_program(data)
    return caught.value


class Trap:
    """What a pickle calls when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was read",))


def test_what_is_read(program: bytes) -> None:
    read = read_program(program)
    assert [(each.name, each.dtype, each.shape) for each in read.inputs] == [("image", "uint8", (-1, 4, 4, 3))]
    assert [(each.dtype, each.shape) for each in read.outputs] == [("float32", (-1, 2))]
    (weights,) = read.stored.values()
    assert (weights.sizes, len(weights.data)) == ((3, 2), 24)
    assert read.steps[-1].operator == "softmax.int"


def test_our_own_files_hold_no_pickle_and_torch_takes_them(program: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one record is a pickle; with unpickling barred torch.export.load gives the same network."""
    assert not [name for name, data in records_of(program).items() if data[:1] == b"\x80" or zipfile.is_zipfile(io.BytesIO(data))]
    assert str(Path.home()).encode() not in program
    assert b"stack_trace" not in program
    monkeypatch.setattr(torch, "load", lambda *given, **named: pytest.fail("torch.load was called"))
    monkeypatch.setattr(pickle, "loads", lambda *given, **named: pytest.fail("pickle.loads was called"))
    images = pictures(3)
    answers = torch.export.load(io.BytesIO(program)).module()(torch.from_numpy(images))
    np.testing.assert_allclose(answers.detach().numpy(), expected(images), atol=1e-6)


def test_the_same_program_gives_the_same_bytes(program: bytes) -> None:
    again = torch_export_files()["model.pt2"]
    assert records_of(again).keys() == records_of(program).keys()
    assert again == program


def test_reading_needs_no_torch(program: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(program)
    code = f"""
import sys
sys.modules["torch"] = None
from modelyard.runtime.torch_program import read_program
assert read_program(open({str(tmp_path / "m.pt2")!r}, "rb").read()).steps
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_example_inputs_are_never_read(program: bytes, tmp_path: Path) -> None:
    """Where torch.export.save puts its pickle; torch's own loader would run what is in it."""
    trapped = archive_of({**records_of(program), "data/sample_inputs/model.pt": pickle.dumps(Trap())})
    model = load_model(open_bundle(runtime_bundle(tmp_path / "m", "torch_export", {"model.pt2": trapped})))
    images = pictures(2)
    np.testing.assert_allclose(model.run({"image": images})["probabilities"], expected(images), atol=1e-6)


def test_sizes_in_symbols_are_never_evaluated(program: bytes) -> None:
    """torch hands them to sympy, which evaluates them."""

    def change(document: Any) -> None:
        for value in document["graph_module"]["graph"]["tensor_values"].values():
            for size in value["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = "__import__('os').abort()"

    assert read_program(changed(program, MODEL, change)).inputs[0].shape == (-1, 4, 4, 3)


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.load",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.relu.__class__.__mro__",
        "torch.ops.aten.add.out",
        "torch.ops.aten.relu",
        "torch.ops.aten..default",
        "torch.ops.torchvision.decode_image.default",
        "torch.ops.higher_order.cond",
        "_operator.attrgetter",
        "_operator.methodcaller",
        "math.sqrt",
        "#custom:op",
        "builtins.eval",
        "",
    ],
)
def test_only_operators_of_the_list_are_called(program: bytes, target: str) -> None:
    def change(document: Any) -> None:
        nodes_of(document)[-1]["target"] = target

    error = refusal(changed(program, MODEL, change))
    assert isinstance(error, OperatorError)
    assert error.operator == target


def test_the_operator_is_named_to_who_loads_it(program: bytes, tmp_path: Path) -> None:
    data = changed(program, MODEL, lambda document: nodes_of(document)[-1].update(target="torch.os.system"))
    with pytest.raises(InvalidArgument, match=r"uses the operator 'torch\.os\.system'") as caught:
        load_model(open_bundle(runtime_bundle(tmp_path / "m", "torch_export", {"model.pt2": data})))
    assert caught.value.reason == "UNSUPPORTED_OPERATOR"


def test_an_overload_that_writes_into_its_arguments(program: bytes, tmp_path: Path) -> None:
    """`max.dim_max` is `max.dim` with two tensors to write into, without "out" in its name."""
    data = changed(program, MODEL, lambda document: nodes_of(document)[-1].update(target="torch.ops.aten.max.dim_max"))
    with pytest.raises(InvalidArgument) as caught:
        load_model(open_bundle(runtime_bundle(tmp_path / "m", "torch_export", {"model.pt2": data})))
    assert caught.value.reason == "UNSUPPORTED_OPERATOR"


def test_every_operator_of_the_list_exists() -> None:
    """A name that torch does not have would be a wrong promise."""
    missing = [name for name in sorted(OPERATORS) if not hasattr(torch.ops.aten, name)]
    assert missing == []


def test_no_operator_of_the_list_takes_a_file() -> None:
    for name in sorted(OPERATORS):
        packet = getattr(torch.ops.aten, name)
        schemas = [str(getattr(packet, overload)._schema) for overload in packet.overloads()]
        assert not [schema for schema in schemas if "filename" in schema or "Storage" in schema]


CHANGES = {
    "custom objects": lambda d: d["graph_module"]["graph"].update(custom_obj_values={"o": {"name": "o", "class_fqn": "x"}}),
    "an input of the kind 'custom_obj'": lambda d: d["graph_module"]["signature"]["input_specs"].append(
        {"custom_obj": {"arg": {"name": "o", "class_fqn": "x"}, "custom_obj_name": "o"}}
    ),
    "an output of the kind 'buffer_mutation'": lambda d: d["graph_module"]["signature"]["output_specs"].append(
        {"buffer_mutation": {"arg": {"name": "softmax"}, "buffer_name": "b"}}
    ),
    "argument of the kind 'as_graph'": lambda d: nodes_of(d)[-1]["inputs"].append({"name": "g", "arg": {"as_graph": {}}}),
    "argument of the kind 'as_custom_obj'": lambda d: nodes_of(d)[-1]["inputs"].append(
        {"name": "g", "arg": {"as_custom_obj": {}}}
    ),
    "argument of the kind 'as_operator'": lambda d: nodes_of(d)[-1]["inputs"].append({"name": "g", "arg": {"as_operator": "x"}}),
    "before it is computed": lambda d: nodes_of(d).reverse(),
    "two nodes give": lambda d: nodes_of(d).append(nodes_of(d)[-1]),
    "is not computed": lambda d: d["graph_module"]["signature"]["output_specs"][0]["user_output"]["arg"]["as_tensor"].update(
        name="image"
    ),
    "version 9": lambda d: d["schema_version"].update(major=9),
    "datatype 99": lambda d: [value.update(dtype=99) for value in d["graph_module"]["graph"]["tensor_values"].values()],
    "no torch.export program": lambda d: d.pop("graph_module"),
    "where a name is expected": lambda d: nodes_of(d)[0].update(target=["torch"]),
}


@pytest.mark.parametrize("says", CHANGES)
def test_a_program_that_is_not_as_it_must_be(program: bytes, says: str) -> None:
    wanted = says.removeprefix("version 9") or "schema has the version 9"
    assert wanted in str(refusal(changed(program, MODEL, CHANGES[says])))


def test_an_operator_that_changes_what_was_given(program: bytes) -> None:
    def change(document: Any) -> None:
        first = nodes_of(document)[0]
        first["target"] = "torch.ops.aten.relu_.default"

    assert "changes a value that was given" in str(refusal(changed(program, MODEL, change)))


def _entry(document: Any) -> Any:
    return next(iter(document["config"].values()))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: _entry(d).update(use_pickle=True), "is a pickle"),
        (lambda d: _entry(d).update(use_pickle=0), "is a pickle"),
        (lambda d: _entry(d).update(tensor_meta=None), "is a pickle"),
        (lambda d: _entry(d).update(path_name="../../models/model.json"), "holds no"),
        (lambda d: _entry(d).update(path_name="weight_9"), "holds no"),
        (lambda d: _entry(d)["tensor_meta"].update(sizes=[{"as_int": 1 << 31}, {"as_int": 1 << 31}]), "reaches beyond"),
        (lambda d: _entry(d)["tensor_meta"].update(sizes=[{"as_int": -1}, {"as_int": 2}]), "where a size is expected"),
        (lambda d: _entry(d)["tensor_meta"].update(strides=[{"as_int": 1 << 39}, {"as_int": 1}]), "reaches beyond"),
        (lambda d: _entry(d)["tensor_meta"].update(strides=[{"as_int": 1}]), "2 sizes and 1 strides"),
        (lambda d: _entry(d)["tensor_meta"].update(storage_offset={"as_int": 1}), "reaches beyond"),
        (lambda d: _entry(d)["tensor_meta"].update(storage_offset={"as_expr": {"expr_str": "1"}}), "no torch.export program"),
        (lambda d: _entry(d)["tensor_meta"].update(dtype=8), "reaches beyond"),
        (lambda d: _entry(d)["tensor_meta"].update(dtype=True), "datatype True"),
        (lambda d: d.update(config={}), "holds no values for"),
    ],
)
def test_weights_that_are_not_as_they_must_be(program: bytes, change: Any, says: str) -> None:
    assert says in str(refusal(changed(program, WEIGHTS, change)))


def with_entry(data: bytes, name: str) -> bytes:
    stream = io.BytesIO(data)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(name, b"{}")
    return stream.getvalue()


def test_records_twice_or_compressed_or_missing(program: bytes) -> None:
    records = records_of(program)
    assert "compressed" in str(refusal(archive_of(records, compression=zipfile.ZIP_DEFLATED)))
    assert "twice" in str(refusal(with_entry(program, f"other/{MODEL}")))
    assert "outside the archive's folder" in str(refusal(with_entry(program, "model.json")))
    for name in (MODEL, WEIGHTS, CONSTANTS, "archive_format"):
        assert "hold" in str(refusal(archive_of({key: data for key, data in records.items() if key != name})))
    assert "little-endian" in str(refusal(archive_of({**records, "byteorder": b"big"})))


def test_two_models_and_deep_json(program: bytes) -> None:
    records = records_of(program)
    assert "2 models" in str(refusal(archive_of({**records, "models/other.json": records[MODEL]})))
    assert "no torch.export program" in str(refusal(archive_of({**records, MODEL: b"[" * 200_000})))
    assert "no JSON object" in str(refusal(archive_of({**records, MODEL: json.dumps([1]).encode()})))


def test_a_pickle_of_torch_save_is_no_program() -> None:
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(1)}, buffer)
    assert "holds no 'archive_format'" in str(refusal(buffer.getvalue()))


def test_symbolic_sizes_are_computed(tmp_path: Path) -> None:
    """A network that asks for the batch's size: the only numbers of a program that are not written in it."""
    from modelyard.exporter.worker.torch_records import without_pickles

    class Reshaping(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, image: Any) -> Any:
            flat = image.float().reshape(image.shape[0] * 2, -1)
            return torch.softmax(flat.reshape(image.shape[0], -1)[:, :2], dim=1)

    example = (torch.zeros((2, 4, 4, 3), dtype=torch.uint8),)
    buffer = io.BytesIO()
    shapes = {"image": {0: torch.export.Dim("N")}}
    torch.export.save(torch.export.export(Reshaping(), example, dynamic_shapes=shapes).run_decompositions({}), buffer)
    data = without_pickles(buffer.getvalue())
    assert any(step.operator.startswith("sym_size") for step in read_program(data).steps)
    model = load_model(open_bundle(runtime_bundle(tmp_path / "m", "torch_export", {"model.pt2": data})))
    for count in (1, 2, 5):
        images = pictures(count)
        wanted = torch.softmax(torch.from_numpy(images).float().reshape(count, -1)[:, :2], dim=1).numpy()
        np.testing.assert_allclose(model.run({"image": images})["probabilities"], wanted, atol=1e-6)
