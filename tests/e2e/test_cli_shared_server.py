"""Two commands on one data folder: the second uses the server of the first, and goes on when that has ended."""

from __future__ import annotations

import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.e2e.test_cli_interrupts import children, killed, started
from tests.support.sources import breast_cancer_csv, digits_folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def read_until(process: subprocess.Popen[str], word: str) -> str:
    """What it says on stderr until a line begins with a word."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith(word):
            return "".join(said)
    raise AssertionError("".join(said))


def a_command_with_a_server(data_dir: Path) -> subprocess.Popen[str]:
    """One that stays until it is told to end."""
    first = started(data_dir, "console", "--no-browser", "--port", "0")
    assert "one is started for this command" in read_until(first, "no server has")
    assert first.stdout is not None
    assert first.stdout.readline().startswith("http://")
    return first


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGKILL], ids=["told", "killed"])
def test_the_second_goes_on_when_the_first_ends(tmp_path: Path, ended_by: signal.Signals) -> None:
    first = a_command_with_a_server(tmp_path / "data")
    with killed(first, []):
        source = breast_cancer_csv(tmp_path / "cancer.csv")
        second = started(tmp_path / "data", "auto", source, "--name", "cancer", "--max-train-time", "15s", "--recipe", "linear")
        with killed(second, []):
            said = read_until(second, "train: running")
            assert "one is started for this command" not in said
            first.send_signal(ended_by)
            first.communicate(timeout=40)
            out, err = second.communicate(timeout=300)
            assert second.returncode == 0, said + err
            assert "a server of its own goes on in its place" in err
            assert "Traceback" not in err
            assert "modelyard predict cancer --csv FILE" in out


def test_the_third_uses_the_one_of_the_second(tmp_path: Path) -> None:
    """However many there are, there is one server at a time, at one address."""
    pictures = digits_folder(tmp_path / "digits", per_class=180)
    first = a_command_with_a_server(tmp_path / "data")
    with killed(first, []):
        others = [started(tmp_path / "data", "dataset", "import", pictures, "--name", f"d{number}") for number in range(2)]
        heard: list[tuple[str, str]] = []
        with killed(others[0], []), killed(others[1], []):
            read_until(others[0], "import:")
            read_until(others[1], "import:")
            first.send_signal(signal.SIGTERM)
            waits = [threading.Thread(target=lambda one=one: heard.append(one.communicate())) for one in others]
            for wait in waits:
                wait.start()
            for wait in waits:
                wait.join(200)
            assert [one.returncode for one in others] == [0, 0], heard
            assert not children(first.pid)
