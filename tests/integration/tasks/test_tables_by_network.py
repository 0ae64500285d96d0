"""Tables from data to served answers by a network of rows, in both frameworks, without servers."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from modelyard.core.errors import InvalidArgument
from modelyard.evaluator.domain.evaluation import EvaluationSpec
from modelyard.evaluator.worker.scoring import evaluate
from modelyard.exporter.domain.form import Form
from modelyard.exporter.domain.targets import Target
from modelyard.exporter.worker.candidates import measure_candidates
from modelyard.exporter.worker.drift_statistics import write_statistics
from modelyard.exporter.worker.export import export_model
from modelyard.formats.bundle import Source
from modelyard.formats.dataset import TEST
from modelyard.formats.model import read_model
from modelyard.recipes.build_tabular import columns_of, model_from
from modelyard.recipes.catalogue import find_recipe
from modelyard.recipes.recipe import FRAMEWORKS, TENSORFLOW
from modelyard.serving.handlers.proven_model import LoadOptions, load_proven
from modelyard.trainer.worker.image import ImageTrainingSpec
from modelyard.trainer.worker.row_network import run_row_network
from tests.support.datasets import file_store, open_reader, publish_table
from tests.support.small_training import KeptHooks
from tests.support.tables import TARGETS, credit_table

SOURCE = Source("projects/p/models/m/versions/V001")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setattr("modelyard.trainer.worker.row_network.training_threads", lambda: 1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("target", "metric", "least"), [("good", "accuracy", 0.7), ("level", "accuracy", 0.55), ("limit", "r2", 0.5)]
)
def test_a_table_is_learned_exported_scored_and_served(
    target: str, metric: str, least: float, framework: str, tmp_path: Path
) -> None:
    if framework == TENSORFLOW and find_spec("tensorflow") is None:
        pytest.skip("tensorflow is not installed")
    task = "tabular_regression" if target == "limit" else "tabular_classification"
    store = file_store(tmp_path / "artifacts", "evaluator")
    drop = [name for name in TARGETS if name != target]
    descriptor = publish_table(store, credit_table(), target, task=task, drop=drop)
    reader = open_reader(store, descriptor)
    recipe = find_recipe("mlp" if framework != TENSORFLOW else "mlp-keras", task).with_changes(max_epochs=12, batch_size=16)
    result = run_row_network(ImageTrainingSpec(reader, recipe), KeptHooks(), tmp_path)
    assert result.model_path is not None
    path = tmp_path / "m.bundle"
    card = export_model(result.model_path, reader, path, SOURCE, lambda _: None)
    assert card.parity is not None
    assert (card.recipe, card.parity.against, card.parity.label_agreement) == ("modelyard:mlp", "mlp", 1.0)
    write_statistics(path, reader)
    spec = EvaluationSpec("x", store.put_file(path), "v", descriptor, "ab" * 32, task, (TEST,))
    scored = evaluate(spec, store, tmp_path, lambda *_: None).usage(TEST)
    assert scored is not None
    found = scored.score.metric(metric)
    assert found is not None
    assert found.value > least
    proven = load_proven(path, LoadOptions(cores=1, most_rows=4))
    try:
        names = [column.name for column in reader.descriptor.features]
        rows = {name: values[:4] for name, values in columns_of(reader.table(TEST, columns=names), names).items()}
        asked = {each.input: rows[each.name][:, None] for each in card.columns}
        answer = proven.model.run(asked)
        wanted = model_from(read_model(result.model_path)).predict(rows)
        np.testing.assert_allclose(answer[card.outputs[0].name], wanted, rtol=1e-4, atol=1e-5)
        if target != "limit":
            assert answer["label"].ravel().tolist() == [card.classes[each] for each in wanted.argmax(1)]
    finally:
        proven.model.close()
    with pytest.raises(InvalidArgument) as caught:
        export_model(result.model_path, reader, tmp_path / "l.bundle", SOURCE, lambda _: None, Form("litert", "int8"))
    assert caught.value.reason == "UNSUPPORTED_FORM"
    reader.close()


def test_it_is_measured_before_it_is_trained(tmp_path: Path) -> None:
    store = file_store(tmp_path / "artifacts")
    drop = [name for name in TARGETS if name != "level"]
    reader = open_reader(store, publish_table(store, credit_table(), "level", task="tabular_classification", drop=drop))
    recipes = [find_recipe(name, "tabular_classification") for name in ("mlp", "mlp-keras", "linear")]
    measured = measure_candidates(recipes, reader, tmp_path, Target("cpu-1core", threads=1, local=True), seconds=0.1)
    assert all(each.latency is not None for each in measured), measured
    assert measured[0].size_bytes == pytest.approx(measured[1].size_bytes, rel=0.01)
    assert measured[0].size_bytes > measured[2].size_bytes
    reader.close()
