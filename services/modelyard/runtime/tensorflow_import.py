"""TensorFlow, imported in the one order that works beside torch.

Both bring their own LLVM: torch through triton, which it imports when the first optimizer is made. triton after TensorFlow ends
the process with a segmentation fault; triton before TensorFlow is fine. So wherever triton is installed it comes first.

TensorFlow takes nearly all memory of every GPU it sees, which torch may need in the same process. It sees none here: by its own
setting, since the environment is torch's too.
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

with contextlib.suppress(RuntimeError):  # it has computed already: somebody else settled it
    tensorflow.config.set_visible_devices([], "GPU")

__all__ = ["saved_model_pb2", "tensorflow"]
