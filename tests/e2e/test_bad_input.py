"""Wrong input, as users bring it, through the command line: a clear error that names what is wrong, and nothing half-made."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelyard.client import Client
from tests.support.servers import Process, start_embedded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
MODELYARD = [sys.executable, "-m", "modelyard.cli"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder = tmp_path_factory.mktemp("server")
    server = start_embedded(folder / "data", folder / "log")
    server.wait_ready()
    yield server
    server.stop()


def modelyard(server: Process, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, the last line of stdout as JSON, and stderr."""
    command = [*MODELYARD, *arguments, "--json", "--server", server.address]
    environment = {**server.for_commands(), "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=170, env=environment)
    lines = done.stdout.strip().splitlines()
    return done.returncode, json.loads(lines[-1]) if lines else {}, done.stderr


def picture(value: int, size: tuple[int, int] = (24, 24)) -> bytes:
    noise = np.random.default_rng(value).integers(0, 255, (*size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def classes(folder: Path, counts: dict[str, int]) -> Path:
    number = 0
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            number += 1
            (folder / name / f"{number}.png").write_bytes(picture(number))
    return folder


def empty_folder(path: Path) -> Path:
    (path / "empty").mkdir()
    return path / "empty"


def folder_of_text(path: Path) -> Path:
    (path / "text" / "a").mkdir(parents=True)
    (path / "text" / "a" / "notes.txt").write_text("no picture")
    return path / "text"


def one_class(path: Path) -> Path:
    return classes(path / "one", {"cat": 10})


def csv(path: Path, text: str) -> Path:
    (path / "table.csv").write_text(text)
    return path / "table.csv"


ROWS = "".join(f"{n},{n % 3},{'ab'[n % 2]}\n" for n in range(40))


def header_only(path: Path) -> Path:
    return csv(path, "x,y,target\n")


def no_target_values(path: Path) -> Path:
    return csv(path, "x,y,target\n" + "".join(f"{n},{n % 3},\n" for n in range(40)))


def without_that_column(path: Path) -> Path:
    return csv(path, "x,y,z\n" + ROWS)


def bomb(path: Path) -> Path:
    with zipfile.ZipFile(path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/1.png", b"\0" * (400 << 20))
        archive.writestr("dog/1.png", picture(1))
    return path / "bomb.zip"


def escaping(path: Path) -> Path:
    with zipfile.ZipFile(path / "escape.zip", "w") as archive:
        for name in ("../cat/1.png", "/etc/dog/2.png", "..\\cat\\3.png"):
            archive.writestr(name, picture(len(name)))
    return path / "escape.zip"


def not_a_zip(path: Path) -> Path:
    (path / "broken.zip").write_bytes(b"PK\x03\x04 but no more")
    return path / "broken.zip"


WRONG_SOURCES: list[tuple[Callable[[Path], Path], list[str], set[str], str]] = [
    (empty_folder, [], {"EMPTY_FOLDER", "NO_EXAMPLES"}, "empty"),
    (folder_of_text, [], {"NO_EXAMPLES", "NOT_A_TABLE"}, ""),
    (one_class, [], {"ONE_CLASS"}, "cat"),
    (header_only, ["--label", "target"], {"NO_EXAMPLES"}, ""),
    (no_target_values, ["--label", "target"], {"TARGET_ALL_MISSING"}, "target"),
    (without_that_column, ["--label", "price"], {"TARGET_COLUMN_MISSING"}, "price"),
    (bomb, [], {"ARCHIVE_BOMB", "ONE_CLASS", "NO_EXAMPLES", "ENTRY_TOO_LARGE", "ARCHIVE_TOO_LARGE"}, ""),
    (escaping, [], {"NO_EXAMPLES", "UNSAFE_NAME", "UNKNOWN_FORMAT"}, ""),
    (not_a_zip, [], {"NOT_A_ZIP"}, ""),
]


@pytest.mark.parametrize(
    ("make", "options", "reasons", "named"), WRONG_SOURCES, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_wrong_source_is_refused_and_leaves_nothing(
    server: Process, tmp_path: Path, make: Callable[[Path], Path], options: list[str], reasons: set[str], named: str
) -> None:
    name = make.__name__.replace("_", "-")
    status, answer, stderr = modelyard(server, "auto", str(make(tmp_path)), "--name", name, "--max-train-time", "5s", *options)
    assert status in (1, 2), stderr
    assert answer["error"]["reason"] in reasons
    assert named in answer["error"]["message"]
    assert "Traceback" not in stderr
    with Client(server.address) as client:
        assert [model.name for model in client.models.list_models() if model.name.endswith(f"/{name}")] == []
        versions = [list(client.datasets.list_dataset_versions(name))] if has_dataset(client, name) else []
        assert versions in ([], [[]])


def has_dataset(client: Client, name: str) -> bool:
    return any(dataset.name.endswith(f"/{name}") for dataset in client.datasets.list_datasets())


WRONG_OPTIONS = [
    (["--train-ratio", "1.5"], "1.5", "ratio"),
    (["--train-ratio", "0.1234567"], "0.1234567", "ratio"),
    (["--train-ratio", "0"], "0", "ratio"),
    (["--train-ratio", "nan"], "nan", "ratio"),
    (["--max-latency-ms", "0"], "0", "latency"),
    (["--max-latency-ms", "20001"], "20001", "latency"),
    (["--target", "toaster"], "toaster", "target"),
    (["--max-train-time", "0s"], "0", "time"),
    (["--name", "Ünïcode name"], "Ünïcode name", "name"),
]


@pytest.mark.parametrize(
    ("options", "value", "field"), WRONG_OPTIONS, ids=lambda value: "-".join(value) if isinstance(value, list) else None
)
def test_a_wrong_option_names_itself_its_value_and_what_is_right(
    server: Process, tmp_path: Path, options: list[str], value: str, field: str
) -> None:
    source = classes(tmp_path / "two", {"cat": 8, "dog": 8})
    status, answer, stderr = modelyard(server, "auto", str(source), "--name", "options", *options)
    said = json.dumps(answer, ensure_ascii=False) + stderr
    assert status == 2, said
    assert value in said
    assert field in said.lower()
    assert "Traceback" not in said


def huge_header() -> bytes:
    """A PNG that claims 20,000 x 20,000 pixels in a few hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def test_bad_files_are_listed_and_the_good_ones_imported(server: Process, tmp_path: Path) -> None:
    folder = classes(tmp_path / "mixed names", {"chat noir": 12, "Größe": 12, ".hidden class": 3, "single": 1})
    good = next((folder / "chat noir").iterdir()).read_bytes()
    bad = {"empty.png": b"", "cut.png": good[: len(good) // 2], "huge.png": huge_header(), "not.jpg": b"hello, this is text"}
    for name, data in bad.items():
        (folder / "chat noir" / name).write_bytes(data)
    shutil.copy(next((folder / "chat noir").glob("1.png")), folder / "Größe" / "same.png")
    status, _, stderr = modelyard(server, "dataset", "import", str(folder), "--name", "mixed")
    assert status == 0, stderr
    with Client(server.address) as client:
        found = next(iter(client.datasets.list_imports("mixed"))).summary
        rejected = {item.path.rsplit("/", 1)[1]: item.reason for item in found.rejected if item.path.rsplit("/", 1)[1] in bad}
        assert rejected == {
            "empty.png": "EMPTY_FILE",
            "cut.png": "TRUNCATED_PICTURE",
            "huge.png": "PICTURE_TOO_LARGE",
            "not.jpg": "NOT_A_PICTURE",
        }
        assert {"chat noir", "Größe"} <= set(found.classes)
        report = client.datasets.wait_quality_report(client.datasets.create_quality_report("mixed").name, 60)
        kinds = {finding.kind for finding in report.findings}
        assert {"CONFLICTING_LABELS", "SMALL_CLASS", "UNREADABLE_INPUT"} <= kinds


def test_two_imports_of_one_dataset_at_once(server: Process, tmp_path: Path) -> None:
    source = classes(tmp_path / "two", {"cat": 400, "dog": 400})
    command = [*MODELYARD, "dataset", "import", str(source), "--name", "twice", "--json", "--server", server.address]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [subprocess.Popen(command, text=True, env=server.for_commands(), **pipes) for _ in range(2)]
    outputs = [process.communicate(timeout=120) for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes[0] == 0, outputs
    if codes[1] != 0:  # they did meet
        lost = next(output for process, output in zip(both, outputs, strict=True) if process.returncode != 0)
        assert "IMPORT_RUNNING" in lost[0] + lost[1]
    with Client(server.address) as client:
        assert client.datasets.get_import(client.datasets.get_dataset("twice").current_import).summary.example_count == 800


def test_a_gate_that_says_no_deploys_nothing_and_says_why(server: Process, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = "".join(
        f"{a:.3f},{b:.3f},{'yes' if c else 'no'}\n"
        for a, b, c in zip(*random.normal(size=(2, 400)), random.integers(0, 2, 400), strict=True)
    )
    (tmp_path / "noise.csv").write_text("a,b,target\n" + rows)
    status, answer, stderr = modelyard(
        server, "auto", str(tmp_path / "noise.csv"), "--name", "noise", "--min-accuracy", "0.9", "--max-train-time", "10s"
    )
    assert status == 3, stderr
    assert answer["gate"]["verdict"] in ("BACK_TO_DATA", "NOT_ENOUGH_DATA")
    assert any("accuracy" in reason and "0.9" in reason for reason in answer["gate"]["reasons"])
    assert not answer["endpoint"]
    with Client(server.address) as client:
        assert [endpoint.name for endpoint in client.endpoints.list_endpoints() if endpoint.name.endswith("/noise")] == []
