"""A network of rows (torch): two hidden layers over the numbers that a linear model takes (recipes.build_tabular)."""

from __future__ import annotations

import itertools
from typing import cast

from torch import Tensor, nn

from modelyard.core.errors import InvalidArgument
from modelyard.recipes.tabular import HIDDEN


class RowNetwork(nn.Module):
    """float32 [N, width] to logits [N, classes], or to [N, 1] numbers in spreads around the mean of the training rows' target."""

    def __init__(self, width: int, outputs: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        sizes = (width, *hidden)
        layers: list[nn.Module] = []
        for inputs, units in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, units), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], outputs)

    def get_classifier(self) -> nn.Module:
        """The last layer, by timm's name for it."""
        return self.head

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.features(x)))


def build_mlp(architecture: str, *, width: int, outputs: int) -> RowNetwork:
    """A network with random weights. Raises InvalidArgument UNKNOWN_ARCHITECTURE."""
    if architecture not in HIDDEN:
        message = f"architecture is {architecture!r}; {', '.join(HIDDEN)} is right for a network of rows"
        raise InvalidArgument("UNKNOWN_ARCHITECTURE", message, field="recipe.architecture", value=architecture)
    return RowNetwork(width, outputs, HIDDEN[architecture])
