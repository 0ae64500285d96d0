"""One example of a dataset version as pixels: a picture, or a sound as its spectrogram."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from modelyard.formats import pictures, sounds


def decode_example(data: bytes, *, height: int, width: int, channels: int, name: str = "picture") -> npt.NDArray[np.uint8]:
    """uint8 [height, width, channels]; which of the two it is the bytes say. Raises as pictures.decode and sounds.decode do."""
    decode = sounds.decode if sounds.is_sound(data) else pictures.decode
    return decode(data, height=height, width=width, channels=channels, name=name)
