"""Tutorials as tests: the commands of Markdown pages, run as they stand, and what the pages say of their output.

A block marked `console` has commands after `$ ` (a here-document goes on until its end), and below each what is printed. In it
`...` stands for anything within a line, a line that is `...` alone for any number of lines; `[exit N]` for the status a command
ends with, 0 unless said. `<!-- needs NAME -->` names a data set, `<!-- slow -->` keeps a page out of `make test`.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
TUTORIALS: Final = ROOT / "docs" / "tutorials"
READY_S: Final = 120.0
COMMAND_S: Final = 600.0
_FENCE = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Step:
    """A command of a page, what it is to print, and the status it is to end with. `line` is where it stands."""

    command: str
    wanted: tuple[str, ...]
    status: int
    line: int


@dataclass(frozen=True)
class Page:
    """A tutorial."""

    path: Path
    steps: tuple[Step, ...]
    needs: tuple[str, ...]
    slow: bool

    @property
    def name(self) -> str:
        return self.path.stem


def pages() -> list[Page]:
    """All tutorials that have commands to run."""
    return [page for page in map(read, sorted(TUTORIALS.glob("*.md"))) if page.name != "index"]


def read(path: Path) -> Page:
    """A page and its commands, in their order."""
    text = path.read_text(encoding="utf-8")
    steps = [step for block in _FENCE.finditer(text) for step in steps_of(block[1], text.count("\n", 0, block.start()) + 2)]
    return Page(path, tuple(steps), tuple(re.findall(r"<!-- needs (\S+) -->", text)), "<!-- slow -->" in text)


def steps_of(block: str, first_line: int = 1) -> list[Step]:
    """The commands of a block."""
    steps: list[Step] = []
    lines = block.splitlines()
    at = 0
    while at < len(lines):
        if not lines[at].startswith("$ "):
            raise ValueError(f"line {first_line + at}: output without a command: {lines[at]!r}")
        start, command = at, [lines[at][2:]]
        at += 1
        ending = re.search(r"<<\s*'?(\w+)'?", command[0])
        while ending and command[-1] != ending[1]:
            command.append(lines[at])
            at += 1
        wanted: list[str] = []
        status = 0
        while at < len(lines) and not lines[at].startswith("$ "):
            said = re.fullmatch(r"\[exit (\d+)\]", lines[at])
            if said:
                status = int(said[1])
            else:
                wanted.append(lines[at])
            at += 1
        steps.append(Step("\n".join(command), tuple(wanted), status, first_line + start))
    return steps


def fits(wanted: tuple[str, ...], printed: str) -> str:
    """Empty where what was printed is what was wanted, else the first wanted line that is not there. Spaces count as one."""
    if not wanted:
        return ""
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    at, free = 0, False
    for line in wanted:
        want = " ".join(line.split())
        if want == "...":
            free = True
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in want.split("...")))
        found = next((n for n in range(at, len(lines) if free else min(at + 1, len(lines))) if pattern.fullmatch(lines[n])), None)
        if found is None:
            return line
        at, free = found + 1, False
    return "" if free or at == len(lines) else f"(the end; {lines[at]!r} came)"


@dataclass
class Reader:
    """Somebody who types what the pages say: a home folder of their own, and a server that was started as the first page says."""

    home: Path
    environment: dict[str, str]

    def does(self, page: Page) -> None:
        """Types every command of a page; AssertionError names the line where it went otherwise than the page says."""
        folder = self.home / "work" / page.name
        folder.mkdir(parents=True)
        for step in page.steps:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", step.command],
                cwd=folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=COMMAND_S,
                check=False,
            )
            place = f"{page.path.relative_to(ROOT)}:{step.line}"
            assert "Traceback" not in done.stdout, f"{place}: {step.command}\n{done.stdout}"
            assert done.returncode in _allowed(step), f"{place}: {step.command}\nended with {done.returncode}\n{done.stdout}"
            missing = fits(step.wanted, done.stdout)
            assert not missing, f"{place}: {step.command}\nnot printed: {missing}\nprinted:\n{done.stdout}"


def _allowed(step: Step) -> tuple[int, ...]:
    """A short training may not be good enough: where the page leaves the verdict open, the gate's no (3) is an answer, too."""
    return (0, 3) if step.status == 0 and any(re.match(r"gate\s+\.\.\.$", line) for line in step.wanted) else (step.status,)


@contextmanager
def reader(home: Path, data: Path) -> Iterator[Reader]:
    """A reader whose `modelyard up` runs. data: the folder called $DATA."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MODELYARD_", "PYTEST_"))}
    environment |= {"HOME": str(home), "DATA": str(data), "COLUMNS": "120", "MODELYARD_DRAIN_S": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", "modelyard.cli", "up", "--port", "0", "--no-console"]
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        began = time.monotonic()
        assert server.stdout is not None
        said = server.stdout.readline()
        assert said.startswith("ready at "), (
            f"after {time.monotonic() - began:.0f} s: {said!r}\n{(home / 'server.log').read_text()}"
        )
        yield Reader(home, environment)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
