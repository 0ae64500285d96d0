"""TensorFlow, imported in the one order that works beside torch.

Both bring their own LLVM: torch through triton, which it imports when the first optimizer is made. triton after TensorFlow ends
the process with a segmentation fault; triton before TensorFlow is fine. So wherever triton is installed it comes first.
"""

from __future__ import annotations

import contextlib
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the import: it reads it then

if "tensorflow" not in sys.modules:
    with contextlib.suppress(ImportError):
        import triton  # noqa: F401

import tensorflow
from tensorflow.core.protobuf import saved_model_pb2

__all__ = ["saved_model_pb2", "tensorflow"]
