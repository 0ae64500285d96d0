"""Recipes of the tasks beyond classes of pictures and tables, as data, the most accurate of each task first."""

from __future__ import annotations

from typing import Final

from modelyard.recipes.catalogue import FROM_IMAGENET
from modelyard.recipes.recipe import TENSORFLOW, Hyperparameters, Recipe
from modelyard.recipes.tabular import ForecastHyperparameters, TabularHyperparameters

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
_NUMBERS: Final = Hyperparameters(
    max_epochs=60, batch_size=32, base_lr=3e-3, weight_decay=0.02, warmup_steps=100, augmentation="standard", ema_decay=0.99
)
_NETWORK_OF_SERIES: Final = Hyperparameters(
    max_epochs=60, batch_size=32, base_lr=2e-3, weight_decay=0.01, warmup_steps=50, augmentation="none", ema_decay=0.99
)
_SPOKEN: Final = Hyperparameters(max_epochs=60, batch_size=64, base_lr=4e-3, label_smoothing=0.05, augmentation="standard")

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
        name="keypoints-lite0",
        task="keypoint_detection",
        architecture="timm:tf_efficientnet_lite0",
        hyperparameters=_FROM_WEIGHTS,
        parameters_m=3.02,
        weights="imagenet",
        summary="Heat maps on EfficientNet-Lite0: the most accurate, also with few pictures; from ImageNet weights",
        smallest_side=32,
    ),
    Recipe(
        name="keypoints-pyramid",
        task="keypoint_detection",
        architecture="modelyard:pyramid",
        hyperparameters=_FROM_NOTHING,
        parameters_m=1.37,
        summary="Heat maps on a small residual encoder, trained from nothing",
        smallest_side=32,
    ),
    Recipe(
        name="keypoints-micro",
        task="keypoint_detection",
        architecture="modelyard:pyramid_micro",
        hyperparameters=_FROM_NOTHING,
        parameters_m=0.25,
        summary="The smallest heat maps: precise places where there is little time to answer",
        smallest_side=32,
    ),
    Recipe(
        name="points-tinynet",
        task="keypoint_detection",
        architecture="modelyard:points",
        hyperparameters=_NUMBERS,
        parameters_m=0.22,
        summary="Places as numbers, no maps: quick, small, and integers bear it well",
        smallest_side=32,
    ),
    Recipe(
        name="points-micronet",
        task="keypoint_detection",
        architecture="modelyard:points_micro",
        hyperparameters=_NUMBERS,
        parameters_m=0.06,
        summary="The smallest: places as numbers for microcontrollers and tight limits",
        smallest_side=32,
    ),
    Recipe(
        name="multilabel-lite0",
        task="image_multilabel",
        architecture="timm:tf_efficientnet_lite0",
        hyperparameters=FROM_IMAGENET,
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
        name="sensor-hotelling",
        task="anomaly_detection",
        architecture="modelyard:hotelling",
        tabular=TabularHyperparameters(),
        summary="Hotelling's T squared of readings and those just before them: fitted in a second, hard to beat on few machines",
    ),
    Recipe(
        name="sensor-autoencoder",
        task="anomaly_detection",
        architecture="modelyard:autoencoder",
        tabular=TabularHyperparameters(max_steps=1500),
        summary="Small convolutional autoencoder over windows: learns shapes in time; wants hours of normal readings",
    ),
    Recipe(
        name="sensor-forest",
        task="anomaly_detection",
        architecture="modelyard:isolation_forest",
        tabular=TabularHyperparameters(),
        summary="Isolation forest over each channel's mean, spread and roughness: for readings that follow no bell curve",
    ),
    Recipe(
        name="sensor-hotelling-small",
        task="anomaly_detection",
        architecture="modelyard:hotelling_small",
        tabular=TabularHyperparameters(),
        summary="The same without the readings before: the smallest and fastest",
    ),
    Recipe(
        name="forecast-linear",
        task="forecasting",
        architecture="modelyard:forecast_linear",
        tabular=ForecastHyperparameters(),
        summary="One linear map from what was to what comes, fitted in a second: hard to beat on few series",
    ),
    Recipe(
        name="forecast-hits",
        task="forecasting",
        architecture="modelyard:forecast_hits",
        tabular=ForecastHyperparameters(max_steps=3000),
        summary="The linear map with small networks beside it (after N-HiTS): for long series that follow no straight rule",
    ),
    Recipe(
        name="forecast-naive",
        task="forecasting",
        architecture="modelyard:seasonal_naive",
        tabular=ForecastHyperparameters(),
        summary="What was one season ago, with an interval: the smallest, and what the others are measured by",
    ),
    Recipe(
        name="sound-dscnn-micro",
        task="audio_classification",
        architecture="modelyard:dscnn_micro",
        hyperparameters=_SPOKEN,
        parameters_m=0.007,
        summary="The smallest for keyword spotting: a third of sound-dscnn's size and work",
    ),
    Recipe(
        name="sound-dscnn-keras",
        task="audio_classification",
        architecture="modelyard:dscnn",
        hyperparameters=_SPOKEN,
        parameters_m=0.023,
        summary="sound-dscnn, trained by TensorFlow (Keras)",
        framework=TENSORFLOW,
    ),
    Recipe(
        name="sound-dscnn-micro-keras",
        task="audio_classification",
        architecture="modelyard:dscnn_micro",
        hyperparameters=_SPOKEN,
        parameters_m=0.007,
        summary="sound-dscnn-micro, trained by TensorFlow (Keras)",
        framework=TENSORFLOW,
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
    Recipe(
        name="inceptiontime",
        task="series_classification",
        architecture="modelyard:inception",
        hyperparameters=_NETWORK_OF_SERIES,
        parameters_m=0.46,
        summary="InceptionTime, one network: learns shapes of its own, for thousands of series and minutes of time",
    ),
    Recipe(
        name="inceptiontime-small",
        task="series_classification",
        architecture="modelyard:inception_small",
        hyperparameters=_NETWORK_OF_SERIES,
        parameters_m=0.06,
        summary="Half as deep and as wide: an eighth of the parameters",
    ),
)
"""Inputs are chosen for the dataset (catalogue.input_of)."""
