"""What a native library says of a model, fit to be shown: in one line, without places in its source or on this machine."""

from __future__ import annotations

import re
from typing import Final

MOST: Final = 200
_SOURCE: Final = re.compile(r"(?:[\w.+-]*/)*[\w.+-]+\.(?:cc|cpp|cxx|h|hpp|py)\b(?::\d+)*:?\s?")
"""tflite/kernels/reduce.cc:87, with or without folders before."""
_PATH: Final = re.compile(r"(?<![\w.])/(?:[\w.+@-]+/)+[\w.+@-]*")
_SIGNATURE: Final = re.compile(r"(?:[\w:<>*&]+ )?(?:\w+::)+\w+\([^()]*\)(?: const)?(?: \[with [^\]]*\])?\s?")
"""The C++ function that an error of onnxruntime names after its place."""


def words_of(error: Exception) -> str:
    """At most MOST characters of what it says."""
    text = " ".join(str(error).split())
    for pattern in (_SOURCE, _SIGNATURE, _PATH):
        text = pattern.sub("", text)
    return text.strip(" :")[:MOST] or type(error).__name__
