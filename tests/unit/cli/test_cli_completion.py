"""What a shell is told that may come next, and that a command line starts at once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from modelyard.cli.completing import FILES, suggestions
from modelyard.cli.group import root_command
from tests.support.cli_fakes import Yard
from tests.unit.cli.conftest import Run


def nobody(kind: str, words: Sequence[str]) -> Iterator[str]:
    """A server that has one of each kind, named by it."""
    yield f"my-{kind.replace(' ', '-')}"


def said(*words: str) -> list[str] | str:
    found = suggestions(root_command(), words, nobody)
    return found if isinstance(found, str) else [word for word, _ in found]


def test_commands_and_options() -> None:
    assert said("da") == ["dataset"]
    assert "publish" in said("dataset", "")
    assert said("endpoint", "roll") == ["rollback"]
    assert said("auto", "--max-l") == ["--max-latency-ms", "--max-loss"]
    assert said("auto", "flowers/", "--name", "x", "--no-d") == ["--no-deploy"]
    assert said("nope", "") != FILES


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("runs", "show", ""), ["my-runs"]),
        (("runs", "show", "x"), []),
        (("predict", ""), ["my-endpoints"]),
        (("predict", "flowers", ""), FILES),
        (("train", "--resume", ""), ["my-jobs"]),
        (("train", "--resume", "j", ""), ["my-dataset-versions"]),
        (("train", "flowers/V001", "--recipe", ""), ["my-recipes"]),
        (("report", "r1", "-o", ""), FILES),
        (("auto", ""), FILES),
        (("deploy", ""), ["my-exports"]),
        (("up", ""), []),
    ],
)
def test_names_and_files(words: tuple[str, ...], found: object) -> None:
    assert said(*words) == found


def test_names_are_those_of_the_server(run: Run, yard: Yard) -> None:
    ended = run("completion", "bash", "--words", "--", "endpoint", "show", "fl")
    assert (ended.status, ended.out) == (0, "flowers\n")
    ended = run("completion", "zsh", "--words", "--", "--server", yard.address, "model", "show", "")
    assert "flowers" in ended.out


def test_without_a_server_there_are_no_names(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.delenv("MODELYARD_SERVER")
    ended = run("completion", "bash", "--words", "--", "--data-dir", tmp_path, "endpoint", "show", "")
    assert (ended.status, ended.out.strip(), ended.err) == (0, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_sound(run: Run, shell: str) -> None:
    ended = run("completion", shell)
    assert ended.status == 0
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell}")
    subprocess.run([program, "-n"], input=ended.out, text=True, check=True)


def test_bash_completes(run: Run, yard: Yard) -> None:
    """In a real bash, with this interpreter's command on the PATH."""
    script = run("completion", "bash").out
    line = 'COMP_WORDS=(modelyard endpoint show fl); COMP_CWORD=3; _modelyard; printf "%s\\n" "${COMPREPLY[@]}"'
    folder = sys.executable.rpartition("/")[0]
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{line}"],
        env={"PATH": f"{folder}:/usr/bin:/bin", "MODELYARD_SERVER": yard.address, "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "flowers\n", done.stderr


def test_an_unknown_shell_is_refused(run: Run) -> None:
    ended = run("completion", "tcsh")
    assert (ended.status, "give bash, zsh or fish" in ended.err) == (2, True)
