"""The processes that train one model together.

Alone, a worker is a group of one, and nothing here costs anything. Under torchrun (RANK, WORLD_SIZE, MASTER_ADDR in the
environment) the group computes with gloo between processors and NCCL between GPUs. What only one of them may do (speak with the
service, write checkpoints) the `lead` does, which has rank 0; what all must do at the same step they agree on first (`agree`).
The group's store, which torchrun's agent holds, carries what is said outside of steps: the assignment, errors, the end.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

LAUNCHED: Final = "TORCHELASTIC_RUN_ID"
"""In the environment of what torchrun starts."""

POLL_S = 0.2


class GroupBroken(Exception):
    """Another process of the group is gone, or is no longer in step; this one must end, and the group begin again."""


@dataclass(eq=False)
class Group:
    """rank: 0 to size - 1; local_rank: among those of its node. store: what all of them read and write; None alone."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    store: Any = None
    _control: Any = None
    _pending: tuple[Any, Tensor] | None = field(default=None, repr=False)

    @property
    def lead(self) -> bool:
        """Whether this process speaks for the group."""
        return self.rank == 0

    @property
    def shared(self) -> bool:
        """Whether there are others."""
        return self.size > 1

    def agree(self, own: Sequence[int]) -> list[int]:
        """The largest of what all say, place by place: alone at once; in a group what was said at the call before (zeros at the
        first), so that the answer travels while the step between is computed."""
        if not self.shared:
            return list(own)
        pending = self._pending
        said = torch.tensor(own, dtype=torch.int64)
        self._pending = (dist.all_reduce(said, dist.ReduceOp.MAX, group=self._control, async_op=True), said)
        if pending is None:
            return [0] * len(own)
        pending[0].wait()
        return [int(value) for value in pending[1]]

    def settle(self) -> None:
        """Waits for the answer that `agree` still expects."""
        if self._pending is not None:
            self._pending[0].wait()
            self._pending = None

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums over all, place by place."""
        if not self.shared:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self._control)
        return [float(value) for value in total]

    def leads(self, value: int) -> int:
        """What the lead has."""
        return int(self.sum([value if self.lead else 0])[0])

    def wrapped(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The network whose backward pass gives everyone the mean of all gradients."""
        if not self.shared:
            return module
        devices = [device] if device.type == "cuda" else None
        # Statistics are kept alike by the norms themselves (shared_norm), so buffers need not be sent at each step.
        return nn.parallel.DistributedDataParallel(
            module, device_ids=devices, forward_sync_buffers=False, gradient_as_bucket_view=True
        )

    # Outside of steps

    def tell(self, what: str, value: Any = None) -> None:
        """Writes a JSON value for the others to read."""
        if self.store is not None:
            self.store.set(what, json.dumps(value))

    def told(self, what: str) -> Any:
        """What somebody wrote; None when nobody did."""
        return json.loads(self.store.get(what)) if self.store is not None and self.store.check([what]) else None

    def wait(self, *names: str, seconds: float = float("inf")) -> str:
        """Waits until somebody has written one of these, and says which; raises GroupBroken when the store is gone or the time
        is up. Looks again and again, so that signals are heard meanwhile."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                found = next((name for name in names if self.store.check([name])), None)
            except RuntimeError as error:
                raise GroupBroken(f"the group's store is gone: {error}") from error
            if found is not None:
                return found
            time.sleep(POLL_S)
        raise GroupBroken(f"nobody said {' or '.join(names)} within {seconds:g} s")

    def close(self) -> None:
        """Leaves the group, without waiting for anybody."""
        if self.shared and dist.is_initialized():
            dist.destroy_process_group()


ALONE: Final = Group()


def launched() -> bool:
    """Whether torchrun started this process."""
    return LAUNCHED in os.environ and "RANK" in os.environ


def join_group(timeout_s: float, *, cuda: bool = False) -> Group:
    """The group that torchrun put this process into; of one where it is alone there.

    timeout_s: how long a step may wait for the others before the group counts as broken. Raises GroupBroken when they do not
    come.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if size == 1:
        return ALONE
    timeout = timedelta(seconds=timeout_s)
    try:
        agents = next(rendezvous("env://", timeout=timeout))[0]
        store = PrefixStore(f"modelyard/{meet(agents, rank, size, timeout_s)}", agents)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=rank, world_size=size, timeout=timeout
        )
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        return Group(rank, size, local_rank, store, dist.new_group(backend="gloo", timeout=timeout))
    except RuntimeError as error:
        raise GroupBroken(f"the group did not come together: {error}") from error


def meet(store: Any, rank: int, size: int, timeout_s: float) -> str:
    """The number of this meeting of the group, the same for all who are in it.

    torchrun's agents keep one store for all meetings, and number those by restarts, which each agent counts for itself. So what
    an earlier meeting left there could be taken for this one's. Rank 0 opens a number, everyone answers it with a word of its
    own, and rank 0 confirms the words: who does not find his own among them looks for a later number.
    """
    deadline, word = time.monotonic() + timeout_s, uuid.uuid4().hex
    number = str(store.add("modelyard/meetings", 1)) if rank == 0 else ""
    while time.monotonic() < deadline:
        opened = number or str(store.add("modelyard/meetings", 0))
        place = f"modelyard/meeting/{opened}"
        store.set(f"{place}/{rank}", word)
        answers = [f"{place}/{each}" for each in range(size)]
        if rank == 0 and store.check(answers):
            store.set(f"{place}/all", json.dumps([store.get(each).decode() for each in answers]))
        if store.check([f"{place}/all"]) and json.loads(store.get(f"{place}/all"))[rank : rank + 1] == [word]:
            return opened
        time.sleep(0.05)
    raise GroupBroken(f"the {size} processes of the group did not meet within {timeout_s:g} s")


def broken_by(error: BaseException) -> bool:
    """Whether an error of a step says that another process of the group is gone (gloo raises plain RuntimeErrors)."""
    if isinstance(error, GroupBroken | dist.DistError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        sign in text for sign in ("gloo", "NCCL", "Connection closed by peer", "TCPStore")
    )


def exit_with_parent(end: Callable[[], None]) -> None:
    """Calls `end` when the process that started this one is gone (torchrun's agent, killed): looks once a second, for ever."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1.0)
    end()
