"""torch, imported where a torch.export program is run and nowhere else in the runtime."""

from __future__ import annotations

import torch

__all__ = ["torch"]
