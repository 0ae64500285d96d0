"""The front end in C of edge bundles: the pictures it makes are those that models learned from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from modelyard.exporter.worker.edge_sound import RATES, sound_input
from modelyard.formats.sounds import spectrogram

COMPILER = shutil.which("cc") or shutil.which("gcc")
MAIN = """
#include <stdio.h>
#define MODELYARD_RATE @RATE@
#include "sound_input.h"
int main(void) {
  static int16_t samples[400000];
  static uint8_t picture[MODELYARD_BANDS * MODELYARD_COLUMNS];
  const int32_t count = (int32_t)fread(samples, 2, 400000, stdin);
  modelyard_picture(samples, count, picture);
  return fwrite(picture, 1, sizeof picture, stdout) == sizeof picture ? 0 : 1;
}
"""


def sounds(rate: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    time = np.arange(int(rate * 0.7)) / rate
    word = np.sin(2 * np.pi * (200 + 900 * time) * time) * np.exp(-((time - 0.3) ** 2) / 0.02)
    noisy = word + random.normal(0, 0.003, len(time))
    long = np.tile(noisy, 3)
    found = {
        "short": noisy[: rate // 4],
        "quiet": noisy * 0.004,
        "long": long,
        "full": np.sign(np.sin(2 * np.pi * 440 * time)),
        "click": np.eye(1, rate // 2, 1000)[0],
        "noise": random.uniform(-1, 1, rate),
    }
    return {name: np.round(values / max(1.0, np.abs(values).max()) * 32767).astype(np.int16) for name, values in found.items()}


@pytest.mark.skipif(COMPILER is None, reason="no C compiler is here")
@pytest.mark.parametrize("rate", RATES)
def test_the_pictures_are_those_of_training(rate: int, tmp_path: Path) -> None:
    (tmp_path / "sound_input.h").write_text(sound_input(40, 48))
    (tmp_path / "main.c").write_text(MAIN.replace("@RATE@", str(rate)))
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-fsanitize=undefined", "-fno-sanitize-recover"]
    subprocess.run([COMPILER, *strict, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    for name, samples in sounds(rate).items():
        done = subprocess.run([tmp_path / "main"], input=samples.astype("<i2").tobytes(), stdout=subprocess.PIPE, check=True)
        made = np.frombuffer(done.stdout, np.uint8).reshape(40, 48).astype(int)
        wanted = spectrogram(samples.astype(np.float32) / 32768, rate, 40, 48).astype(int)
        assert wanted.max() == 255
        apart = np.abs(made - wanted)
        assert apart.max() <= 1, name
        assert apart.mean() < 0.05, name


@pytest.mark.skipif(COMPILER is None, reason="no C compiler is here")
def test_silence_is_dark_and_another_rate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sound_input.h").write_text(sound_input(40, 96))
    (tmp_path / "main.c").write_text(MAIN.replace("@RATE@", "8000"))
    subprocess.run([COMPILER, "main.c", "-o", "main"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "main"], input=bytes(8000), stdout=subprocess.PIPE, check=True)
    assert done.stdout == bytes(40 * 96)
    (tmp_path / "main.c").write_text(MAIN.replace("@RATE@", "11025"))
    refused = subprocess.run([COMPILER, "main.c", "-o", "main"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "MODELYARD_RATE must be 8000 or 16000" in refused.stderr
