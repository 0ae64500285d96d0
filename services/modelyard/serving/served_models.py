"""The loaders of served models, put together from settings.

`model_loader(settings)` is what a server constructs, once; `close()` on it when the server stops, after the models were closed,
ends its processes and threads. It makes a process per version, or with MODELYARD_ISOLATION=none keeps them in this one.
"""

from __future__ import annotations

import os
from typing import Protocol

import structlog

from modelyard.core.rpc import tracing
from modelyard.runtime.latency import usable_cores
from modelyard.serving.adapters.in_process_model import InProcessLoader
from modelyard.serving.adapters.model_process import ProcessLoader
from modelyard.serving.adapters.traced_models import TracedLoader
from modelyard.serving.handlers.proven_model import LoadOptions
from modelyard.serving.ports import ServedModelLoader
from modelyard.serving.settings import ServingSettings
from modelyard.serving.worker.observing import observer_of

log = structlog.get_logger()


class ClosableLoader(ServedModelLoader, Protocol):
    """A loader with what its models share: the budget of cores, and processes or threads."""

    def close(self) -> None:
        """Ends what it shares. From any thread but the event loop's; fine more than once."""


def model_loader(settings: ServingSettings) -> ClosableLoader:
    """The loader that the settings ask for."""
    alone = settings.isolation != "none" and can_isolate()
    if settings.isolation != "none" and not alone:
        log.warning("models compute in the server's process: this system has no memfd or pidfd", isolation="none")
    loader: ClosableLoader = process_loader(settings) if alone else in_process_loader(settings)
    return TracedLoader(loader) if tracing.active() else loader


def process_loader(settings: ServingSettings) -> ProcessLoader:
    """A process per version."""
    return ProcessLoader(
        load_options(settings),
        settings.inference_queue,
        timeout_s=settings.execution_timeout_s,
        memory_bytes=settings.model_memory_mib << 20,
    )


def can_isolate() -> bool:
    """Whether this system has what it takes: Linux 5.3 or later, and a container that lets us use it."""
    try:
        os.close(os.memfd_create("modelyard-probe"))
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def in_process_loader(settings: ServingSettings) -> InProcessLoader:
    """Models in this process."""
    return InProcessLoader(load_options(settings), settings.inference_queue, observe=observer_of)


def load_options(settings: ServingSettings) -> LoadOptions:
    """How models are loaded."""
    cores = settings.inference_threads or usable_cores()
    return LoadOptions(cores, min(settings.intra_op_threads, cores), device=settings.device)
