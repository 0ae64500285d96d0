"""Measures recipes before any is trained: the untrained export of each, on the target, through the runtime that will serve it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import InvalidArgument, ModelyardError
from modelyard.exporter.domain.export import Measured
from modelyard.exporter.domain.form import Form, form_for
from modelyard.exporter.domain.targets import Target
from modelyard.exporter.worker.export import Graph, converted_graph, picture_card, table_graph_of, write_proven
from modelyard.exporter.worker.export_job import check_room
from modelyard.exporter.worker.measuring import measured
from modelyard.formats.bundle import Source, open_bundle
from modelyard.formats.dataset import ANOMALY_DETECTION, AUDIO, FORECASTING, IMAGE, SERIES, TRAIN, DatasetReader
from modelyard.formats.model import ModelCard
from modelyard.recipes.recipe import Recipe
from modelyard.recipes.tabular import AUTO, HIDDEN, LIGHTGBM, LINEAR

if TYPE_CHECKING:
    from modelyard.recipes.build_tabular import Matrix, TableModel

log = logging.getLogger(__name__)

STAND_IN_ROWS: Final = 2000
STAND_IN_ROUNDS: Final = 400
STAND_IN_LEAVES: Final = 31


def measure_candidates(
    recipes: Sequence[Recipe],
    reader: DatasetReader,
    workdir: Path,
    target: Target,
    *,
    seconds: float = 1.0,
    on_measured: Callable[[int, Measured], None] = lambda number, result: None,
) -> tuple[Measured, ...]:
    """The latency of each recipe's untrained export for the inputs and classes of a dataset version, in the order given.

    Each is made in the target's form (a table in ONNX) and held against its limits. A recipe that cannot be made, or does not
    suit, has its reason in `error_message`; the others are measured all the same. On a target that nothing can measure on, none
    is: `unmeasured_reason` says so. `seconds` is the time spent measuring each. on_measured(number from 1, result) is called
    after each.
    """
    results: list[Measured] = []
    by_graph: dict[object, Measured] = {}
    for number, recipe in enumerate(recipes, 1):
        same = (_family(recipe), recipe.input)
        if same not in by_graph:
            by_graph[same] = _measure_one(recipe, reader, workdir / f"candidate-{number}.bundle", target, seconds)
        results.append(replace(by_graph[same], recipe_id=recipe.name))
        on_measured(number, results[-1])
    return tuple(results)


def _family(recipe: Recipe) -> str:
    """What decides the graph: `auto` is measured as trees, the slower of its two outcomes."""
    return LIGHTGBM if recipe.architecture == AUTO else recipe.architecture


def _measure_one(recipe: Recipe, reader: DatasetReader, path: Path, target: Target, seconds: float) -> Measured:
    try:
        write_proven(untrained_graph(recipe, reader, target), path)
        bundle = open_bundle(path)
        check_room(bundle, target)
        found = measured(target, path, seconds, alone=False)
        size = path.stat().st_size if found.latency is not None else bundle.model_size
        return Measured(recipe.name, found.latency, size, unmeasured_reason=found.unmeasured_reason)
    except ModelyardError as error:
        return Measured(recipe.name, None, 0, error.message)
    except Exception as error:  # one network that torch cannot build must not hide what the others take
        log.exception("%s could not be measured", recipe.name)
        return Measured(recipe.name, None, 0, f"{type(error).__name__}: {error}"[:500])
    finally:
        path.unlink(missing_ok=True)


def untrained_graph(recipe: Recipe, reader: DatasetReader, target: Target) -> Graph:
    """The export of a recipe whose weights mean nothing yet, in the target's form."""
    if reader.descriptor.kind in (IMAGE, AUDIO):
        return _untrained_picture(recipe, reader, Form(target.format, target.precision, accelerator=target.accelerator))
    if reader.descriptor.task == ANOMALY_DETECTION:
        from modelyard.exporter.worker.sensor_graph import sensor_graph_of, untrained_sensors

        return sensor_graph_of(untrained_sensors(recipe.architecture, reader), reader, Source(), recipe.name)
    if reader.descriptor.task == FORECASTING:
        from modelyard.exporter.worker.forecast_graph import forecast_graph_of, untrained_forecast

        return forecast_graph_of(untrained_forecast(recipe.architecture, reader), reader, Source(), recipe.name)
    if reader.descriptor.kind == SERIES:
        return _untrained_series(recipe, reader)
    return _untrained_table(recipe, reader)


def _untrained_picture(recipe: Recipe, reader: DatasetReader, form: Form) -> Graph:
    from modelyard.exporter.worker.picture_graph import untrained_model

    if recipe.input is None:
        message = f"the recipe {recipe.name} has no input size; give input_height, input_width and input_channels"
        raise InvalidArgument("INVALID_RECIPE", message, field="recipes.input_height")
    classes, task = reader.descriptor.answered, reader.descriptor.task
    model = untrained_model(recipe.architecture, recipe.input, len(classes), task=task)
    card = picture_card(recipe.input, classes, Source(), recipe.name, task)
    return converted_graph(model, reader, card, form_for(task, form))


def _untrained_series(recipe: Recipe, reader: DatasetReader) -> Graph:
    import torch

    from modelyard.exporter.worker.export import series_graph_of
    from modelyard.exporter.worker.series_graph import untrained_series
    from modelyard.formats.series import fitted_series, usual_steps
    from modelyard.recipes.build_series import RocketModel

    annotated, channels, steps = reader.annotations(TRAIN), max(1, len(reader.descriptor.channels)), usual_steps(reader)
    model = untrained_series(recipe.architecture, steps=steps, channels=channels, classes=len(reader.descriptor.classes))
    some = fitted_series(reader, TRAIN, np.arange(min(8, len(annotated))), steps)
    if len(some) and isinstance(model, RocketModel):
        model.choose_biases(torch.from_numpy(some))
    return series_graph_of(model.eval(), channels, reader, Source(), recipe.name)


def _untrained_table(recipe: Recipe, reader: DatasetReader) -> Graph:
    """A model of usual size, fitted to a few rows with nothing chosen: its answers mean little, its work is the same."""
    model = _stand_in(recipe, reader)
    described = reader.descriptor
    columns = [(column.name, column.type) for column in described.features]
    kind = ModelCard(model.kind, described.task, model.kind, described.classes, target=described.target)
    return table_graph_of(model, columns, reader, Source(), kind)


def _stand_in(recipe: Recipe, reader: DatasetReader) -> TableModel:
    """A model fitted to the first rows."""
    from modelyard.recipes.build_tabular import LinearMap, TableModel, columns_of, fit_encoding, target_matrix

    classes = reader.descriptor.classes
    names = [column.name for column in reader.descriptor.features]
    columns = {name: values[:STAND_IN_ROWS] for name, values in columns_of(reader.table(TRAIN, columns=names), names).items()}
    y = reader.labels(TRAIN)[:STAND_IN_ROWS]
    hidden = HIDDEN.get(recipe.architecture, ())
    linear = recipe.architecture == LINEAR or bool(hidden)
    encoding = fit_encoding(columns, target_matrix(y, len(classes)), linear=linear)
    encoded = encoding.apply(columns)
    if not linear:
        return TableModel(encoding, classes, trees=_stand_in_trees(encoded, y, len(classes)))
    sizes, random = (encoded.shape[1], *hidden, len(classes) if len(classes) > 2 else 1), np.random.default_rng(0)
    layers = tuple(
        LinearMap((random.normal(size=(outputs, inputs)) / inputs**0.5).astype(np.float32), np.zeros(outputs, np.float32))
        for inputs, outputs in itertools.pairwise(sizes)
    )
    return TableModel(encoding, classes, layers=layers) if hidden else TableModel(encoding, classes, linear=layers[0])


def _stand_in_trees(encoded: Matrix, y: NDArray[Any], classes: int) -> str:
    import lightgbm

    objective = {0: "regression", 2: "binary"}.get(classes, "multiclass")
    parameters = {
        "objective": objective,
        **({"num_class": classes} if classes > 2 else {}),
        "num_leaves": STAND_IN_LEAVES,
        "min_data_in_leaf": max(1, min(20, len(y) // 20)),
        "verbosity": -1,
        "num_threads": 1,
        "seed": 0,
    }
    rounds = STAND_IN_ROUNDS if classes <= 2 else max(50, STAND_IN_ROUNDS // classes)
    text: str = lightgbm.train(parameters, lightgbm.Dataset(encoded, y), rounds).model_to_string()
    return text
