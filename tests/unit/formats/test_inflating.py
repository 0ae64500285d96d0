"""Small pieces are unpacked whole or not at all, whichever library does it."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.formats import inflating


@pytest.fixture
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "zlib":
        monkeypatch.setattr(inflating, "libdeflate", None)
    elif inflating.libdeflate is None:
        pytest.skip("libdeflate (deflate on PyPI) is not installed")


@pytest.mark.parametrize("library", ["libdeflate", "zlib"], indirect=True)
@pytest.mark.parametrize("size", [1, 812, 70_000])
def test_only_a_whole_stream_of_the_size_announced_is_given(library: None, size: int) -> None:
    data = bytes(number * number % 251 for number in range(size))
    packed = zlib.compress(data)
    raw = packed[2:-4]
    assert inflating.unzlib(packed, size) == data == inflating.inflate(raw, size)
    for wrong in (size - 1, size + 1, 0):
        assert inflating.unzlib(packed, wrong) is None
        assert inflating.inflate(raw, wrong) is None
    for damaged in (packed[:-1], packed[:-5], packed[:-1] + bytes([packed[-1] ^ 1]), packed + b"x", b"", b"x" * 20):
        assert inflating.unzlib(damaged, size) is None
    assert inflating.inflate(raw[: len(raw) // 2], size) is None


@given(st.binary(max_size=300), st.integers(0, 301), st.binary(max_size=8))
def test_both_libraries_say_the_same(data: bytes, size: int, after: bytes) -> None:
    packed = zlib.compress(data)
    for given_ in (packed + after, data, packed[:-1]):
        found = []
        for used in (inflating.libdeflate, None):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(inflating, "libdeflate", used)
                found.append((inflating.unzlib(given_, size), inflating.inflate(given_[2:-4], size)))
        assert found[0] == found[1]
