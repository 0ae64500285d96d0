"""The command line run in this process against a yard of fakes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from modelyard.cli.main import main
from tests.support.cli_fakes import Yard


@dataclass
class Ran:
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The last line of stdout."""
        return json.loads(self.out.strip().splitlines()[-1])


@pytest.fixture
def yard() -> Iterator[Yard]:
    made = Yard()
    yield made
    made.server.stop()


Run = Callable[..., Ran]


@pytest.fixture
def run(yard: Yard, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `modelyard ...` with the yard as its server."""
    monkeypatch.setenv("MODELYARD_SERVER", yard.address)

    def ran(*arguments: object) -> Ran:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        said = capfd.readouterr()
        return Ran(int(caught.value.code or 0), said.out, said.err)

    return ran
