"""The front end of an edge bundle that listens: formats.sounds in C, in whole numbers, with its tables.

Microphones of devices give 8 or 16 kHz; at these rates the window of 32 ms has 256 or 512 samples, a power of two, as the
transform needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.formats.sounds import WINDOW_S, triangles

RATES: Final = (8000, 16000)
_TEMPLATE: Final = Path(__file__).parent / "edge_files" / "sound_input.h"


def sound_input(height: int, width: int) -> str:
    """sound_input.h for a model of spectrograms [height, width]."""
    size = round(max(RATES) * WINDOW_S)
    ram = 2 * 4 * size + 2 * height * width
    text = _TEMPLATE.read_text()
    values = {"HEIGHT": str(height), "WIDTH": str(width), "RAM": str(ram), "TABLES": _tables(height)}
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _tables(height: int) -> str:
    parts = []
    for place, rate in enumerate(RATES):
        parts.append(f"#{'el' if place else ''}if MODELYARD_RATE == {rate}\n{_tables_at(rate, height)}")
    logarithms = np.round(np.log2(1 + np.arange(33) / 32) * 65536).astype(np.int64)
    parts.append(f"#else\n#error MODELYARD_RATE must be {' or '.join(map(str, RATES))}\n#endif\n")
    return "".join(parts) + _array("uint32_t", "modelyard_logarithms", logarithms)


def _tables_at(rate: int, height: int) -> str:
    size = round(rate * WINDOW_S)
    window = np.round(np.hanning(size + 1)[: size // 2 + 1] * 65536).clip(max=65535).astype(np.int64)
    cosines = np.round(np.cos(2 * np.pi * np.arange(size // 2) / size) * 2**30).astype(np.int64)
    weights = np.round(triangles(rate, size, height) * 32768).astype(np.int64).clip(0, 32768)
    firsts, counts, used = [], [], []
    for band in weights.T:
        places = np.flatnonzero(band)
        first, last = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
        firsts.append(first)
        counts.append(last - first)
        used.append(band[first:last])
    return (
        f"#define MODELYARD_SIZE {size}\n"
        + _array("uint16_t", "modelyard_window", window)
        + _array("int32_t", "modelyard_cosines", cosines)
        + _array("uint16_t", "modelyard_firsts", np.array(firsts))
        + _array("uint16_t", "modelyard_counts", np.array(counts))
        + _array("uint16_t", "modelyard_weights", np.concatenate(used))
    )


def _array(kind: str, name: str, values: NDArray[Any]) -> str:
    rows = (", ".join(map(str, values[start : start + 16].tolist())) for start in range(0, len(values), 16))
    return f"static const {kind} {name}[{len(values)}] = {{\n    " + ",\n    ".join(rows) + "};\n"
