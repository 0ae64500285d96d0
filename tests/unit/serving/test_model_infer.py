"""ModelInfer from bytes to bytes: what reaches the model, what comes back, what is refused by name, and what is counted."""

from __future__ import annotations

import struct
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference import grpc_service_pb2 as oip
from modelyard.core.errors import (
    DeadlineExceeded,
    InvalidArgument,
    ModelyardError,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from modelyard.formats.bundle import TensorSpec
from modelyard.serving.domain.version_statistics import Timing
from modelyard.serving.ports import Answer, Tensor
from tests.support.inference_fakes import MAX_BATCH, MODEL, PICTURE, TABLE, Answering, Call, calls_of, infer, x_request


def refused(request: oip.ModelInferRequest, model: Answering | None = None) -> ModelyardError:
    """The error of a request that never reaches the model; it is counted as rejected."""
    model = model or Answering()
    with pytest.raises(ModelyardError) as error:
        infer(calls_of(model), request)
    assert model.asked == []
    assert (model.statistics.rejected, model.statistics.failures, model.statistics.successes) == (1, 0, 0)
    return error.value


def test_the_bytes_that_came_reach_the_model_and_its_bytes_go_back() -> None:
    model = Answering()
    response = infer(calls_of(model), x_request(rows=2))
    (tensor,) = model.asked[0]
    assert (tensor.name, tensor.datatype, tensor.shape) == ("x", "FP32", (2, 4))
    assert bytes(tensor.data) == np.arange(8, dtype="<f4").tobytes()
    assert (response.model_name, response.model_version, response.id) == (MODEL, "V001", "r-1")
    told = [(output.name, output.datatype, list(output.shape)) for output in response.outputs]
    assert told == [("probabilities", "FP32", [2, 3]), ("label", "BYTES", [2])]
    assert list(response.raw_output_contents) == [bytes(24), b"\1\0\0\0a\1\0\0\0a"]


IDS = st.text(max_size=200).filter(lambda text: not any("\ud800" <= letter <= "\udfff" for letter in text))


@given(st.integers(1, MAX_BATCH), IDS, st.binary(max_size=70_000))
def test_the_bytes_written_by_hand_are_the_message(rows: int, request_id: str, label: bytes) -> None:
    """Whatever the lengths: the response is what protobuf's own writer would have made of it."""
    tensors = (Tensor("probabilities", "FP32", (rows, 3), bytes(12 * rows)), Tensor("label", "BYTES", (rows,), label))
    model = Answering(outcome=Answer(tensors, Timing()))
    request = x_request(rows)
    request.id = request_id
    expected = oip.ModelInferResponse(model_name=MODEL, model_version="V001", id=request_id)
    for tensor in tensors:
        expected.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        expected.raw_output_contents.append(bytes(tensor.data))
    assert infer(calls_of(model), request) == expected


def test_answers_of_other_shapes_are_not_mixed_up() -> None:
    calls = calls_of(Answering())
    for rows in (1, 3, 1, 2, 3):
        assert list(infer(calls, x_request(rows)).outputs[0].shape) == [rows, 3]


def test_a_new_card_under_the_same_name_has_its_own_rules() -> None:
    calls = calls_of(Answering())
    infer(calls, x_request())
    entry = calls.registry.entries()[0]
    calls.registry.put(type(entry)(MODEL, "V001", entry.since, entry.condition, Answering(card=PICTURE)))
    with pytest.raises(InvalidArgument, match="the model takes 'image'"):
        infer(calls, x_request())


def test_outputs_come_in_the_order_asked() -> None:
    request = x_request()
    request.outputs.add(name="label")
    request.outputs.add(name="probabilities")
    assert [output.name for output in infer(calls_of(Answering()), request).outputs] == ["label", "probabilities"]


def changed(change: Callable[[oip.ModelInferRequest], Any]) -> oip.ModelInferRequest:
    request = x_request()
    change(request)
    return request


BIG = 2**31
BAD: list[tuple[str, Callable[[oip.ModelInferRequest], Any]]] = [
    ("UNKNOWN_INPUT", lambda r: setattr(r.inputs[0], "name", "y")),
    ("UNKNOWN_INPUT", lambda r: setattr(r.inputs[0], "name", "n" * 100_000)),
    ("UNKNOWN_DATATYPE", lambda r: setattr(r.inputs[0], "datatype", "FLOAT")),
    ("WRONG_DATATYPE", lambda r: setattr(r.inputs[0], "datatype", "FP64")),
    ("WRONG_DATATYPE", lambda r: setattr(r.inputs[0], "datatype", "BYTES")),
    ("WRONG_SHAPE", lambda r: r.inputs[0].shape.append(1)),
    ("WRONG_SHAPE", lambda r: r.inputs[0].shape.__setitem__(1, 3)),
    ("BAD_SHAPE", lambda r: r.inputs[0].shape.__delitem__(slice(None))),
    ("BAD_SHAPE", lambda r: r.inputs[0].shape.__setitem__(0, -1)),
    ("BAD_SHAPE", lambda r: r.inputs[0].shape.__setitem__(0, 0)),
    ("WRONG_SHAPE", lambda r: r.inputs[0].shape.__setitem__(slice(None), [BIG, BIG])),
    ("BATCH_TOO_LARGE", lambda r: r.inputs[0].shape.__setitem__(0, MAX_BATCH + 1)),
    ("BATCH_TOO_LARGE", lambda r: r.inputs[0].shape.__setitem__(0, 2**63 - 1)),
    ("SIZE_MISMATCH", lambda r: r.inputs[0].shape.__setitem__(0, 2)),
    ("SIZE_MISMATCH", lambda r: r.raw_input_contents.__setitem__(0, b"")),
    ("SIZE_MISMATCH", lambda r: r.raw_input_contents.__setitem__(0, bytes(17))),
    ("RAW_CONTENTS_MISMATCH", lambda r: r.raw_input_contents.append(b"")),
    ("MIXED_CONTENTS", lambda r: r.inputs[0].contents.fp32_contents.append(1)),
    ("MIXED_CONTENTS", lambda r: r.inputs[0].contents.SetInParent()),
    ("REPEATED_INPUT", lambda r: (r.inputs.append(r.inputs[0]), r.raw_input_contents.append(r.raw_input_contents[0]))),
    ("MISSING_INPUT", lambda r: (r.inputs.pop(), r.raw_input_contents.pop())),
    ("UNKNOWN_OUTPUT", lambda r: r.outputs.add(name="y")),
    ("UNKNOWN_OUTPUT", lambda r: r.outputs.extend([r.outputs.add(name="label")])),
    ("BAD_ID", lambda r: setattr(r, "id", "i" * 1025)),
    ("BAD_PARAMETER", lambda r: setattr(r.parameters["timeout"], "int64_param", -1)),
    ("BAD_PARAMETER", lambda r: setattr(r.parameters["timeout"], "string_param", "soon")),
    ("BAD_PARAMETER", lambda r: setattr(r.parameters["timeout"], "bool_param", True)),
    ("BAD_PARAMETER", lambda r: setattr(r.parameters["timeout"], "double_param", float("nan"))),
    ("BAD_PARAMETER", lambda r: setattr(r.outputs.add(name="label").parameters["classification"], "int64_param", -1)),
    ("BAD_PARAMETER", lambda r: setattr(r.outputs.add(name="label").parameters["classification"], "string_param", "2")),
]


@pytest.mark.parametrize(("reason", "change"), BAD, ids=[f"{index}-{reason}" for index, (reason, _) in enumerate(BAD)])
def test_what_is_wrong_is_refused_by_name(reason: str, change: Callable[[oip.ModelInferRequest], Any]) -> None:
    error = refused(changed(change))
    assert isinstance(error, InvalidArgument)
    assert error.reason == reason
    assert len(error.message) < 600


def test_ten_thousand_inputs_are_refused_at_the_first_that_is_wrong() -> None:
    request = x_request()
    for index in range(10_000):
        request.inputs.add(name=f"x{index}", datatype="FP32", shape=[1])
        request.raw_input_contents.append(b"")
    start = time.process_time()
    assert refused(request).reason == "UNKNOWN_INPUT"
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("where", ["inputs", "outputs"])
def test_shared_memory_is_refused_and_not_passed_over(where: str) -> None:
    request = x_request()
    place = request.inputs[0] if where == "inputs" else request.outputs.add(name="label")
    place.parameters["shared_memory_region"].string_param = "region"
    assert isinstance(refused(request), Unimplemented)


def test_parameters_of_every_kind_are_taken() -> None:
    request = x_request()
    request.parameters["a"].bool_param = True
    request.parameters["b"].int64_param = -1
    request.parameters["priority"].uint64_param = 2**64 - 1
    request.parameters["d"].double_param = 1.5
    request.parameters["e"].string_param = "x"
    request.parameters["empty"].Clear()
    request.inputs[0].parameters["f"].int64_param = 3
    assert len(infer(calls_of(Answering()), request).outputs) == 2


@pytest.mark.parametrize(("kind", "value"), [("int64_param", 250_000), ("uint64_param", 250_000), ("string_param", "250000")])
def test_a_timeout_in_microseconds_is_a_deadline(kind: str, value: Any) -> None:
    model, request = Answering(), x_request()
    setattr(request.parameters["timeout"], kind, value)
    before = time.monotonic()
    infer(calls_of(model), request)
    assert model.deadlines[0] is not None
    assert before + 0.25 <= model.deadlines[0] <= time.monotonic() + 0.25


def test_the_earlier_of_deadline_and_timeout_counts() -> None:
    model, request = Answering(), x_request()
    request.parameters["timeout"].int64_param = 10**12
    call = Call(deadline=time.monotonic() + 5)
    calls_of(model).model_infer(call, request.SerializeToString())
    assert model.deadlines == [call.deadline]


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x2a\x05abc", bytes(100), b"\x0a\x02\xff\xfe"])
def test_bytes_that_are_no_request_are_refused(message: bytes) -> None:
    with pytest.raises(InvalidArgument) as error:
        calls_of(Answering()).model_infer(Call(), message)
    assert error.value.reason == "BAD_MESSAGE"


def test_messages_that_nest_deep_are_refused_without_harm() -> None:
    """Groups of an unknown field within one another: readers that follow them run out of stack."""
    for depth in (50, 1000, 100_000):
        with pytest.raises((InvalidArgument, NotFound)):
            calls_of(Answering()).model_infer(Call(), b"\x7b" * depth + b"\x7c" * depth)


@given(st.binary(max_size=200))
def test_any_bytes_are_answered_or_refused(message: bytes) -> None:
    call = Call()
    try:
        calls_of(Answering()).model_infer(call, message)
    except ModelyardError as error:
        call.error = error
    assert isinstance(call.error, InvalidArgument | NotFound)


def table_request(**raw: bytes) -> oip.ModelInferRequest:
    values = {"age": b"\x05\0\x06\0", "here": b"\1\0", "sex": b"\1\0\0\0f\2\0\0\0\xc3\xa9"} | raw
    request = oip.ModelInferRequest(model_name=MODEL)
    for name, datatype in (("age", "INT16"), ("here", "BOOL"), ("sex", "BYTES")):
        request.inputs.add(name=name, datatype=datatype, shape=[2, 1])
        request.raw_input_contents.append(values[name])
    return request


def test_several_inputs_reach_the_model_in_the_order_of_its_card() -> None:
    model = Answering(card=TABLE)
    infer(calls_of(model), table_request())
    assert [tensor.name for tensor in model.asked[0]] == ["sex", "age", "here"]


@pytest.mark.parametrize(
    ("name", "raw", "reason"),
    [
        ("here", b"\1\2", "BAD_BOOL"),
        ("sex", b"\1\0\0\0f", "BAD_BYTES"),
        ("sex", b"\xff\xff\xff\xff" * 2, "BAD_BYTES"),
        ("age", b"\1\0", "SIZE_MISMATCH"),
    ],
)
def test_contents_that_do_not_fit_are_refused(name: str, raw: bytes, reason: str) -> None:
    assert refused(table_request(**{name: raw}), Answering(card=TABLE)).reason == reason


def test_inputs_with_different_numbers_of_examples_are_refused() -> None:
    request = table_request(age=b"\1\0")
    request.inputs[0].shape[0] = 1
    assert "sex: 2, age: 1" in refused(request, Answering(card=TABLE)).message


def test_typed_contents_become_the_same_bytes() -> None:
    model, request = Answering(card=TABLE), oip.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="age", datatype="INT16", shape=[2, 1]).contents.int_contents.extend([5, 6])
    request.inputs.add(name="here", datatype="BOOL", shape=[2, 1]).contents.bool_contents.extend([True, False])
    request.inputs.add(name="sex", datatype="BYTES", shape=[2, 1]).contents.bytes_contents.extend([b"f", "é".encode()])
    calls = calls_of(model)
    infer(calls, request)
    infer(calls, table_request())
    assert model.asked[0] == model.asked[1]


@pytest.mark.parametrize(
    ("fill", "reason"),
    [
        (lambda t: t.contents.int_contents.extend([5, 70_000]), "OUT_OF_RANGE"),
        (lambda t: t.contents.int_contents.append(5), "SIZE_MISMATCH"),
        (lambda t: t.contents.fp32_contents.extend([5, 6]), "WRONG_CONTENTS"),
        (lambda t: None, "SIZE_MISMATCH"),
    ],
)
def test_typed_contents_that_do_not_fit_are_refused(fill: Callable[[Any], Any], reason: str) -> None:
    request = oip.ModelInferRequest(model_name=MODEL)
    fill(request.inputs.add(name="age", datatype="INT16", shape=[2, 1]))
    assert refused(request, Answering(card=TABLE)).reason == reason


def test_very_many_typed_elements_are_refused() -> None:
    """64 pictures of 512 x 512 in a list of numbers: reading them would hold everybody up."""
    large = replace(PICTURE, inputs=(TensorSpec("image", "UINT8", (-1, 512, 512, 3)),))
    request = oip.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="image", datatype="UINT8", shape=[64, 512, 512, 3]).contents.uint_contents.append(1)
    assert refused(request, Answering(card=large)).reason == "TOO_MANY_TYPED"


def test_bf16_is_taken_for_fp32() -> None:
    model, request = Answering(), x_request(datatype="BF16")
    request.raw_input_contents[0] = struct.pack("<4H", 0x3F80, 0xC000, 0x0000, 0x7F80)
    infer(calls_of(model), request)
    (tensor,) = model.asked[0]
    assert tensor.datatype == "FP32"
    assert struct.unpack("<4f", tensor.data) == (1.0, -2.0, 0.0, float("inf"))


def test_bf16_of_the_wrong_size_or_for_another_type_is_refused() -> None:
    assert refused(x_request(datatype="BF16")).reason == "SIZE_MISMATCH"
    picture = x_request(name="image", datatype="BF16", shape=[1, 2, 2, 3])
    assert refused(picture, Answering(card=PICTURE)).reason == "WRONG_DATATYPE"


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_picture_files_are_one_element_an_example(shape: list[int]) -> None:
    model, request = Answering(card=PICTURE), x_request(name="image", datatype="BYTES", shape=shape)
    request.raw_input_contents[0] = b"\3\0\0\0abc\0\0\0\0"
    infer(calls_of(model), request)
    assert model.asked[0][0].shape == (2,)


def test_the_largest_classes_are_told_with_their_labels() -> None:
    values = np.array([[0.5, 0.25, 0.25], [0.125, np.nan, 0.875]], "<f4")
    tensors = (Tensor("probabilities", "FP32", (2, 3), values.tobytes()), Tensor("label", "BYTES", (2,), b""))
    request = x_request(2)
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = 2
    response = infer(calls_of(Answering(outcome=Answer(tensors, Timing()))), request)
    assert (response.outputs[0].datatype, list(response.outputs[0].shape)) == ("BYTES", [2, 2])
    elements = [b"0.500000:0:a", b"0.250000:1:b", b"0.875000:2:c", b"0.125000:0:a"]
    assert response.raw_output_contents[0] == b"".join(struct.pack("<I", len(each)) + each for each in elements)


def test_more_classes_than_there_are_give_all() -> None:
    request = x_request()
    request.outputs.add(name="probabilities").parameters["classification"].uint64_param = 2**40
    assert list(infer(calls_of(Answering()), request).outputs[0].shape) == [1, 3]


def test_classes_of_text_cannot_be_told_and_nobody_is_to_blame() -> None:
    model, request = Answering(), x_request()
    request.outputs.add(name="label").parameters["classification"].int64_param = 1
    with pytest.raises(InvalidArgument) as error:
        infer(calls_of(model), request)
    assert error.value.reason == "CLASSIFICATION_OF_TEXT"
    assert (model.statistics.rejected, model.statistics.failures) == (1, 0)


def test_answers_are_counted_with_their_times() -> None:
    model = Answering()
    calls = calls_of(model)
    infer(calls, x_request(2))
    infer(calls, x_request(3))
    counted = model.statistics
    assert (counted.successes, counted.examples, counted.queue_ns, counted.compute_infer_ns) == (2, 5, 20, 60)
    assert counted.success_ns > 0
    assert counted.last_inference_ms > 0


@pytest.mark.parametrize(
    ("error", "failures"),
    [
        (Unavailable("MODEL_CRASHED", "it ended"), 1),
        (DeadlineExceeded("DEADLINE_EXCEEDED", "too late"), 1),
        (InvalidArgument("NOT_A_PICTURE", "no picture"), 0),
    ],
)
def test_what_fails_in_the_model_is_told_and_counted(error: ModelyardError, failures: int) -> None:
    model = Answering(outcome=error)
    with pytest.raises(type(error)):
        infer(calls_of(model), x_request())
    assert (model.statistics.failures, model.statistics.rejected) == (failures, 1 - failures)


@pytest.mark.parametrize(
    ("error", "failures"),
    [
        (ResourceExhausted("QUEUE_FULL", "full"), 0),
        (DeadlineExceeded("DEADLINE_TOO_NEAR", "no"), 0),
        (Unavailable("MODEL_UNHEALTHY", "ended"), 1),
    ],
)
def test_what_the_model_does_not_take_is_told_and_counted(error: ModelyardError, failures: int) -> None:
    model = Answering(refusal=error)
    with pytest.raises(type(error)):
        infer(calls_of(model), x_request())
    assert (model.statistics.failures, model.statistics.rejected) == (failures, 1 - failures)


def test_no_more_bytes_are_taken_than_there_is_room_for() -> None:
    """Of the inputs of all requests on their way; what is answered, fails or is taken back makes room again."""
    model = Answering(hold=True)
    calls = calls_of(model, most_bytes=100)
    ended = [Call() for _ in range(6)]
    for call in ended:
        calls.model_infer(call, x_request().SerializeToString())
    for _ in range(2):
        with pytest.raises(ResourceExhausted) as error:
            calls.model_infer(Call(), x_request().SerializeToString())
        assert error.value.reason == "TOO_MANY_BYTES"
        assert error.value.retry_after_s
    assert model.statistics.rejected == 2
    model.release()
    assert calls.predictions.held_bytes == 80
    for _ in range(2):
        assert ended[1].cancel is not None
        ended[1].cancel()
    model.release()
    assert calls.predictions.held_bytes == 64
    model.refusal = Unavailable("MODEL_UNHEALTHY", "ended")
    with pytest.raises(Unavailable):
        calls.model_infer(Call(), x_request().SerializeToString())
    assert calls.predictions.held_bytes == 64
    while model.waiting:
        model.release()
    assert calls.predictions.held_bytes == 0


def test_a_request_larger_than_all_the_room_is_taken_alone() -> None:
    assert infer(calls_of(Answering(), most_bytes=1), x_request())


@pytest.mark.parametrize("outcome", [None, Unavailable("MODEL_CRASHED", "it ended")])
def test_a_call_that_has_ended_is_held_by_nobody(outcome: ModelyardError | None) -> None:
    """The model may hold the request, and the call what takes it back: without care a ring, with all tensors in it."""
    model = Answering(outcome=outcome, hold=True)
    call = Call()
    calls_of(model).model_infer(call, x_request().SerializeToString())
    gone = weakref.ref(call)
    held = model.waiting[0]
    held()
    del call
    assert gone() is None
    assert held is not None


def test_a_caller_that_goes_away_takes_its_request_back() -> None:
    model, call = Answering(hold=True), Call()
    calls_of(model).model_infer(call, x_request().SerializeToString())
    assert call.cancel is not None
    call.cancel()
    assert model.taken_back == 1


def test_models_and_versions_that_are_not_there_are_named() -> None:
    calls = calls_of(Answering())
    for changes, reason in (({"model_name": "../etc"}, "MODEL_NOT_FOUND"), ({"model_version": "V009"}, "VERSION_NOT_FOUND")):
        request = x_request()
        for key, value in changes.items():
            setattr(request, key, value)
        with pytest.raises(NotFound) as error:
            infer(calls, request)
        assert error.value.reason == reason
