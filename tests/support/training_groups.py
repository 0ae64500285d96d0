"""Runs a function in several processes that are one training group, as torchrun would start them but without an agent."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard.trainer.worker.group import Group, join_group


def together(size: int, function: Callable[..., None], *arguments: Any, seconds: float = 240) -> None:
    """Calls function(group, *arguments) in `size` processes; fails unless all of them end well. It must be a module's own."""
    context = multiprocessing.get_context("spawn")
    port = free_port()
    processes = [context.Process(target=_member, args=(rank, size, port, function, arguments)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds)
    left = [process for process in processes if process.is_alive()]
    for process in left:
        process.kill()
    assert not left, "the group did not end"
    assert [process.exitcode for process in processes] == [0] * size


def _member(rank: int, size: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    group = join_group(60.0)
    function(group, *arguments)
    group.close()


def free_port() -> int:
    """A port of the loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def in_folder(folder: Path, group: Group) -> Path:
    """A folder of the process's own."""
    own = folder / f"rank-{group.rank}"
    own.mkdir(parents=True, exist_ok=True)
    return own
