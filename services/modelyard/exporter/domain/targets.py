"""Targets: hardware that models are made for. The named ones come with the product; users add their own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from modelyard.core.errors import FieldViolation, InvalidArgument, ModelyardError
from modelyard.exporter.domain.form import EDGE, FP32, INT8, LITERT, ONNX, Form, check_form

LONGEST_DISPLAY_NAME: Final = 200
MOST_THREADS: Final = 256
MOST_BYTES: Final = 1 << 40
_AGENT = re.compile(r"(?:https://)?(\[[0-9a-fA-F:]{2,39}\]|[A-Za-z0-9._-]{1,253}):([0-9]{1,5})")


@dataclass(frozen=True)
class Target:
    """Hardware with its limits. `id` is the last part of its name; 0 bytes: no limit is known; 0 threads: all.

    local: this machine is that hardware, so that latency is measured by running here. Else it is measured by the agent
    (host:port) on the device, or not at all.
    """

    id: str
    display_name: str = ""
    format: str = ONNX
    precision: str = FP32
    ram_bytes: int = 0
    flash_bytes: int = 0
    threads: int = 0
    agent: str = ""
    accelerator: str = ""
    local: bool = False
    predefined: bool = False

    @property
    def measurable(self) -> bool:
        """Whether something can run an artifact there."""
        return self.local or bool(self.agent)

    @property
    def unmeasured_reason(self) -> str:
        """Why its latency is not known; empty where it can be measured."""
        if self.measurable:
            return ""
        return (
            f"this machine is not {self.id}, and no agent measures on such a device; run `python -m modelyard.runtime.agent` "
            "there, and name its host:port in a target of your own"
        )


CPU, CPU_1CORE, GPU, EDGE_ARM64, MCU = "cpu", "cpu-1core", "gpu", "edge-arm64", "mcu"


def predefined(gpu_is_here: bool) -> tuple[Target, ...]:
    """The named targets. `gpu_is_here`: the runtime that serves can compute on an NVIDIA GPU of this machine."""
    return (
        Target(CPU, "This machine's processor, all cores", local=True, predefined=True),
        Target(CPU_1CORE, "One core of this machine's processor", threads=1, local=True, predefined=True),
        Target(GPU, "NVIDIA GPU", local=gpu_is_here, predefined=True),
        Target(EDGE_ARM64, "64-bit Arm with Linux, such as a Raspberry Pi", LITERT, INT8, predefined=True),
        Target(
            MCU,
            "Microcontroller, such as a Cortex-M7",
            EDGE,
            INT8,
            ram_bytes=256 << 10,
            flash_bytes=1 << 20,
            threads=1,
            predefined=True,
        ),
    )


def check_target(target: Target, named: tuple[Target, ...]) -> Target:
    """A target of the user's own. Raises InvalidArgument with a violation for each field that is wrong."""
    violations = [FieldViolation(f"target.{field}", f"{field} {text}") for field, text in _wrong(target, named)]
    if violations:
        message = "; ".join(violation.description for violation in violations)
        raise InvalidArgument("INVALID_TARGET", message, violations=tuple(violations), target_id=target.id[:80])
    return target


def _wrong(target: Target, named: tuple[Target, ...]) -> list[tuple[str, str]]:
    wrong = []
    if target.id in {each.id for each in named}:
        wrong.append(("target_id", f"is {target.id!r}, which comes with the product and cannot be changed; take another id"))
    if len(target.display_name) > LONGEST_DISPLAY_NAME:
        wrong.append(("display_name", f"has {len(target.display_name)} characters; at most {LONGEST_DISPLAY_NAME} are allowed"))
    wrong += [
        (field, f"is {getattr(target, field)}; it must be 0 (no limit is known) to {MOST_BYTES}")
        for field in ("ram_bytes", "flash_bytes")
        if not 0 <= getattr(target, field) <= MOST_BYTES
    ]
    if not 0 <= target.threads <= MOST_THREADS:
        wrong.append(("threads", f"is {target.threads}; it must be 0 (all) to {MOST_THREADS}"))
    if target.agent and not _is_address(target.agent):
        wrong.append(
            (
                "agent",
                f"is {target.agent[:80]!r}; it must be host:port or https://host:port of `python -m modelyard.runtime.agent`",
            )
        )
    try:
        check_form(Form(target.format, target.precision, accelerator=target.accelerator))
    except ModelyardError as error:
        wrong.append((error.violations[0].field, error.message.partition(" ")[2]))
    return wrong


def _is_address(text: str) -> bool:
    found = _AGENT.fullmatch(text)
    return found is not None and 1 <= int(found[2]) <= 65535
