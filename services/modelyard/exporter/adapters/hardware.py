"""What this machine can compute on."""

from __future__ import annotations

from pathlib import Path
from typing import Final

NVIDIA: Final = Path("/proc/driver/nvidia/version")


class ThisMachine:
    """ports.Hardware."""

    def gpu_is_here(self) -> bool:
        """A driver alone is not enough: onnxruntime, which serves, must be built for CUDA too."""
        if not NVIDIA.exists():
            return False
        try:
            import onnxruntime
        except ImportError:
            return False
        return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
