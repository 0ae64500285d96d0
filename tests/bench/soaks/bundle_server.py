"""Our server with the models of the comparison, and the body of a request to one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.load_client import Load, load
from tests.bench.peers.asking import check_answers, infer_request
from tests.bench.peers.contestants import CONTESTANTS
from tests.bench.peers.models import BenchModel, bench_models
from tests.bench.peers.running import Running, running


@contextmanager
def served(folder: Path) -> Iterator[tuple[Running, list[BenchModel]]]:
    """The server as it starts by default; it answers rightly."""
    models = bench_models()
    with running(CONTESTANTS["ours"], models, folder / "server") as server:
        still_right(server, models)
        yield server, models


def still_right(server: Running, models: list[BenchModel]) -> None:
    """Raises WrongAnswer."""
    for model in models:
        check_answers("ours", server.addresses[model.name], model)


def body_of(model: BenchModel, folder: Path) -> Path:
    """A file with the bytes of a request for one example."""
    file = folder / f"{model.name}.request"
    file.write_bytes(infer_request(model, model.example()).SerializeToString())
    return file


def peak(address: str, body: Path, seconds: float) -> Load:
    """As many requests as 8 callers get answered."""
    return load(address, body, callers=8, seconds=seconds, warm=1)
