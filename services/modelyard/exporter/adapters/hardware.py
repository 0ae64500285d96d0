"""What this machine can compute on."""

from __future__ import annotations


class ThisMachine:
    """ports.Hardware."""

    def gpu_is_here(self) -> bool:
        """No: the runtimes that serve ask for the processor only (runtime/onnx.py), so what they take is no GPU's latency."""
        return False
