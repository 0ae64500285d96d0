"""Whether there is memory for one more model."""

from __future__ import annotations

from typing import Final

from modelyard.core.errors import ResourceExhausted

FACTOR: Final = 3.0
"""Memory of a loaded model by the size of its file: the file while it is read, the weights, and their packed copy."""
LEAST: Final = 48 << 20
"""What a process takes besides: interpreter, runtime, working memory of small models."""
MIB: Final = 1 << 20


def needed_bytes(bundle_bytes: int) -> int:
    """What loading a bundle of this size may take."""
    return LEAST + int(FACTOR * bundle_bytes)


def check_free(bundle_bytes: int, free: int, reserved: int) -> None:
    """Raises ResourceExhausted NOT_ENOUGH_MEMORY naming both numbers.

    `reserved`: what the neighbours once had beyond what they have now, and may take again.
    """
    needed = needed_bytes(bundle_bytes)
    if needed + reserved > free:
        message = (
            f"the model needs about {needed // MIB} MiB to be loaded and {free // MIB} MiB are free here, of which "
            f"the models that are served may take {reserved // MIB} MiB again; unload a version or give the server more memory"
        )
        raise ResourceExhausted("NOT_ENOUGH_MEMORY", message, needed_bytes=needed, free_bytes=free, reserved_bytes=reserved)
