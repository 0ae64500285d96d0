"""Proof of a graph with several outputs of numbers: all of them, side by side, are held against the trained model's."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from modelyard.core.errors import FailedPrecondition
from modelyard.exporter.worker.export import LEAST_EXAMPLES, Graph, Inputs, all_loaded, all_vectors, evenly, kept_examples
from modelyard.exporter.worker.parity import prove
from modelyard.formats import bundle as bundles
from modelyard.formats.bundle import BundleCard
from modelyard.formats.forecasts import joined


def write_several(graph: Graph, expected: Inputs, path: Path) -> BundleCard:
    """Proves, writes the bundle at `path`, and asks it its test vectors. Raises FailedPrecondition PARITY_FAILED."""
    card, names = graph.card, [spec.name for spec in graph.card.outputs]
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        unproven = Path(folder) / "unproven.bundle"
        bundles.write_bundle(unproven, card, graph.model, all_vectors(graph, expected, slice(0, LEAST_EXAMPLES)))
        with all_loaded(unproven) as run:
            parity, _ = prove(
                lambda inputs: joined({name: run(dict(inputs))[name] for name in names}),
                graph.inputs,
                joined({name: expected[name] for name in names}),
                classes=0,
                against=graph.against,
                precision=card.precision,
            )
            answers = run(graph.inputs)
    rows = evenly(len(answers[names[0]]), kept_examples(graph.inputs))
    vectors = all_vectors(graph, answers, rows)
    written = bundles.write_bundle(path, replace(card, parity=parity), graph.model, vectors)
    try:
        with all_loaded(path) as run:
            again = run(vectors.inputs)
        for name, wanted in vectors.outputs.items():
            difference = float(np.abs(again[name] - wanted).max())
            if not difference <= parity.tolerance:
                message = f"the bundle's own test vectors come out different by {difference:g} in {name} when it is served"
                raise FailedPrecondition("PARITY_FAILED", message, output=name, difference=difference)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return written
