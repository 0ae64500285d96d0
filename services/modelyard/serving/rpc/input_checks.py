"""What the inputs of a request must be, whichever way it came (gRPC or HTTP): names, datatypes, shapes, sizes."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from modelyard.core.errors import InvalidArgument
from modelyard.serving.domain.tensors import BF16, BYTES, bf16_to_fp32, check_raw, element_count, known_datatype
from modelyard.serving.ports import Tensor
from modelyard.serving.rpc.signature import InputRule, Signature

LONGEST_NAME = 200
"""Characters of a caller's name that an error repeats."""


def rule_of(signature: Signature, name: str, taken: Collection[str]) -> InputRule:
    """The rule of an input. Raises InvalidArgument UNKNOWN_INPUT, or REPEATED_INPUT when it is among `taken`."""
    rule = signature.inputs.get(name)
    shown = name[:LONGEST_NAME]
    if rule is None:
        known = list(signature.inputs)
        names = ", ".join(repr(other) for other in known[:20])
        message = f"input {shown!r} is unknown; the model takes {names}" + (" and more" if len(known) > 20 else "")
        raise InvalidArgument("UNKNOWN_INPUT", message, field=f"inputs.{shown}", input=shown)
    if name in taken:
        raise InvalidArgument("REPEATED_INPUT", f"input {shown!r} is there twice", field=f"inputs.{shown}", input=shown)
    return rule


def checked_shape(rule: InputRule, datatype: str, shape: Sequence[int], max_batch: int) -> tuple[int, ...]:
    """The shape that the model is given; picture files [N, 1] are [N].

    Raises InvalidArgument UNKNOWN_DATATYPE, BAD_SHAPE, WRONG_DATATYPE, WRONG_SHAPE, BATCH_TOO_LARGE.
    """
    found = tuple(shape)
    if datatype != BF16:
        known_datatype(rule.spec.name, datatype)
    element_count(rule.spec.name, found)
    if rule.takes_files and datatype == BYTES:
        found = _files_shape(rule, found)
    elif datatype != rule.datatype and not (datatype == BF16 and rule.datatype == "FP32"):
        expected = f"{rule.datatype} (or BYTES: JPEG or PNG files)" if rule.takes_files else rule.datatype
        what = f"has the datatype {datatype}; it must be {expected}"
        raise wrong(rule, "WRONG_DATATYPE", what, found=datatype, expected=rule.datatype)
    elif found[1:] != rule.trailing:
        what = f"has the shape {list(found)}; it must be {list(rule.spec.shape)}, where -1 is the number of examples"
        raise wrong(rule, "WRONG_SHAPE", what, found=list(found), expected=list(rule.spec.shape))
    if found[0] > max_batch:
        what = f"holds {found[0]} examples; at most {max_batch} are taken at once"
        raise wrong(rule, "BATCH_TOO_LARGE", what, found=found[0], limit=max_batch)
    return found


def raw_tensor(rule: InputRule, datatype: str, shape: tuple[int, ...], raw: bytes) -> Tensor:
    """The tensor of raw bytes, whose shape was checked. BF16 for an FP32 input is widened, which is exact.

    Raises InvalidArgument SIZE_MISMATCH, BAD_BYTES, BAD_BOOL.
    """
    name, count = rule.spec.name, math.prod(shape)
    if datatype == BF16:
        if len(raw) != 2 * count:
            what = f"holds {len(raw)} bytes; {count} elements of BF16 need {2 * count}"
            raise wrong(rule, "SIZE_MISMATCH", what, size_bytes=len(raw), needed_bytes=2 * count)
        return Tensor(name, rule.datatype, shape, bf16_to_fp32(raw))
    check_raw(name, datatype, count, raw)
    return Tensor(name, datatype, shape, raw)


def complete(signature: Signature, given: Mapping[str, Tensor]) -> tuple[list[Tensor], int]:
    """The inputs in the order of the card, and how many examples they hold.

    Raises InvalidArgument MISSING_INPUT, or WRONG_SHAPE when they hold different numbers.
    """
    for name, rule in signature.inputs.items():
        if name not in given:
            raise wrong(rule, "MISSING_INPUT", f"is missing; it must be {rule.datatype} {list(rule.spec.shape)}")
    tensors = [given[name] for name in signature.inputs]
    rows = tensors[0].shape[0]
    if any(tensor.shape[0] != rows for tensor in tensors):
        shown = ", ".join(f"{tensor.name}: {tensor.shape[0]}" for tensor in tensors[:20])
        message = f"the inputs hold different numbers of examples ({shown}); the first dimension must be the same in all"
        raise InvalidArgument("WRONG_SHAPE", message, field="inputs", found=shown)
    return tensors, rows


def wrong(rule: InputRule, reason: str, what: str, **values: Any) -> InvalidArgument:
    """The refusal of an input."""
    name = rule.spec.name
    return InvalidArgument(reason, f"input {name!r} {what}", field=f"inputs.{name}", input=name, **values)


def _files_shape(rule: InputRule, shape: tuple[int, ...]) -> tuple[int, ...]:
    """[N] for picture files; [N, 1] means the same."""
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return shape[:1]
    what = f"has the shape {list(shape)}; picture files (BYTES) are [N], one element each"
    raise wrong(rule, "WRONG_SHAPE", what, found=list(shape), expected="[N]")
