"""Recipes of the tasks beyond classes of pictures and tables, as data, the most accurate of each task first."""

from __future__ import annotations

from typing import Final

from modelyard.recipes.recipe import Hyperparameters, Recipe
from modelyard.recipes.tabular import TabularHyperparameters

_FROM_WEIGHTS: Final = Hyperparameters(
    max_epochs=40,
    batch_size=16,
    base_lr=1e-3,
    weight_decay=0.02,
    warmup_steps=100,
    augmentation="standard",
    ema_decay=0.99,
    backbone_lr=0.5,
)
_FROM_NOTHING: Final = Hyperparameters(
    max_epochs=40, batch_size=16, base_lr=3e-3, weight_decay=0.02, warmup_steps=100, augmentation="standard", ema_decay=0.99
)
_SPOKEN: Final = Hyperparameters(max_epochs=30, batch_size=64, base_lr=4e-3, label_smoothing=0.05, augmentation="light")

TASK_RECIPES: Final = (
    Recipe(
        name="detector-lite0",
        task="object_detection",
        architecture="timm:tf_efficientnet_lite0",
        hyperparameters=_FROM_WEIGHTS,
        parameters_m=3.02,
        weights="imagenet",
        summary="Anchor-free detector on EfficientNet-Lite0: the most accurate, also with few pictures; from ImageNet weights",
        smallest_side=32,
    ),
    Recipe(
        name="detector-pyramid",
        task="object_detection",
        architecture="modelyard:pyramid",
        hyperparameters=_FROM_NOTHING,
        parameters_m=1.37,
        summary="Anchor-free detector on a small residual encoder, trained from nothing",
        smallest_side=32,
    ),
    Recipe(
        name="detector-micro",
        task="object_detection",
        architecture="modelyard:pyramid_micro",
        hyperparameters=_FROM_NOTHING,
        parameters_m=0.25,
        summary="The smallest detector: when the latency or the memory of the target leaves no room for more",
        smallest_side=32,
    ),
    Recipe(
        name="segmenter-lite0",
        task="semantic_segmentation",
        architecture="timm:tf_efficientnet_lite0",
        hyperparameters=_FROM_WEIGHTS,
        parameters_m=3.02,
        weights="imagenet",
        summary="Encoder and decoder on EfficientNet-Lite0: the most accurate, also with few pictures; from ImageNet weights",
        smallest_side=32,
    ),
    Recipe(
        name="segmenter-pyramid",
        task="semantic_segmentation",
        architecture="modelyard:pyramid",
        hyperparameters=_FROM_NOTHING,
        parameters_m=1.37,
        summary="Encoder and decoder on a small residual encoder, trained from nothing",
        smallest_side=32,
    ),
    Recipe(
        name="segmenter-micro",
        task="semantic_segmentation",
        architecture="modelyard:pyramid_micro",
        hyperparameters=_FROM_NOTHING,
        parameters_m=0.25,
        summary="The smallest segmenter: when the latency or the memory of the target leaves no room for more",
        smallest_side=32,
    ),
    Recipe(
        name="multilabel-lite0",
        task="image_multilabel",
        architecture="timm:tf_efficientnet_lite0",
        hyperparameters=Hyperparameters(
            max_epochs=16,
            batch_size=32,
            base_lr=4e-4,
            weight_decay=0.02,
            warmup_steps=50,
            augmentation="standard",
            ema_decay=0.995,
        ),
        parameters_m=3.4,
        weights="imagenet",
        summary="The most accurate on photographs, above all with few examples: starts from ImageNet weights where installed",
        smallest_side=64,
    ),
    Recipe(
        name="multilabel-tinynet",
        task="image_multilabel",
        architecture="modelyard:tinynet",
        hyperparameters=Hyperparameters(max_epochs=20, batch_size=64, base_lr=4e-3, augmentation="light"),
        parameters_m=0.19,
        summary="Small residual net for several classes a picture; trains in minutes on a CPU",
    ),
    Recipe(
        name="sound-tinynet",
        task="audio_classification",
        architecture="modelyard:tinynet",
        hyperparameters=_SPOKEN,
        parameters_m=0.19,
        summary="Small residual net on spectrograms: the more accurate one",
    ),
    Recipe(
        name="sound-dscnn",
        task="audio_classification",
        architecture="modelyard:dscnn",
        hyperparameters=_SPOKEN,
        parameters_m=0.023,
        summary="Depthwise separable network for keyword spotting on microcontrollers: about 40 KB in int8",
    ),
    Recipe(
        name="minirocket",
        task="series_classification",
        architecture="modelyard:minirocket",
        tabular=TabularHyperparameters(),
        summary="MiniRocket's 9,996 features and a ridge regression: the most accurate, fitted in seconds",
    ),
    Recipe(
        name="minirocket-small",
        task="series_classification",
        architecture="modelyard:minirocket_small",
        tabular=TabularHyperparameters(),
        summary="A tenth of the features: ten times as fast, nearly as accurate",
    ),
)
"""Inputs are chosen for the dataset (catalogue.input_of)."""
