"""The model's name in the bytes of a request: read as the parser reads it, or left to the parser."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference import grpc_service_pb2 as oip
from modelyard.core.http.guarded import first_text

RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@RELAXED
@given(NAMES, st.binary(max_size=300), st.lists(st.integers(0, 2**40), max_size=4))
def test_it_is_what_the_parser_reads(name: str, raw: bytes, shape: list[int]) -> None:
    request = oip.ModelInferRequest(model_name=name, id="x", raw_input_contents=[raw, raw])
    request.inputs.add(name="image", datatype="UINT8", shape=shape)
    request.parameters["timeout"].int64_param = 5
    assert first_text(request.SerializeToString()) == name


@RELAXED
@given(NAMES, NAMES, st.binary(max_size=200))
def test_the_last_of_several_counts(first: str, second: str, between: bytes) -> None:
    """Else a token for one endpoint would do for another: the name that is checked must be the one that is asked."""
    made = oip.ModelInferRequest(model_name=first).SerializeToString()
    made += oip.ModelInferRequest(raw_input_contents=[between]).SerializeToString()
    made += b"\x0a" + bytes([len(second.encode())]) + second.encode()
    assert first_text(made) == oip.ModelInferRequest.FromString(made).model_name == second


@RELAXED
@given(st.binary(max_size=60))
def test_whatever_comes_it_never_reads_another_name_than_the_parser(data: bytes) -> None:
    found = first_text(data)
    if found is None:
        return
    try:
        parsed = oip.ModelInferRequest.FromString(data)
    except Exception:  # nobody will be asked then
        return
    assert found == parsed.model_name


@RELAXED
@given(st.lists(st.tuples(st.integers(1, 15), st.sampled_from([0, 1, 2, 3, 4, 5]), st.binary(max_size=9)), max_size=5), NAMES)
def test_odd_keys_are_left_to_the_parser_or_read_alike(fields: list[tuple[int, int, bytes]], name: str) -> None:
    data = b"\x0a" + bytes([len(name.encode())]) + name.encode()
    for number, kind, body in fields:
        data += bytes([number << 3 | kind]) + (bytes([len(body)]) + body if kind == 2 else body)
    found = first_text(data)
    if found is not None:
        try:
            parsed = oip.ModelInferRequest.FromString(data)
        except Exception:
            return
        assert found == parsed.model_name


def test_a_key_in_more_bytes_than_needed_is_left_to_the_parser() -> None:
    assert first_text(b"\x8a\x00\x01x") is None
    assert first_text(b"\x0a\x05ab") is None
    assert first_text(b"") == ""
