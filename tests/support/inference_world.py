"""A server with a few models, as the tests of the inference protocol want it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelyard.client import Client
from tests.support.bundles import half_bundle, mlp_bundle, picture_bundle, text_bundle
from tests.support.serving_server import ServingWorld, serving


@contextmanager
def inference_world(folder: Path, **settings: Any) -> Iterator[ServingWorld]:
    """Endpoints `mlp` (V001, V002: other weights, files 1.zip and 2.zip), `picture`, `person` (text, numbers), `half` (FP16)."""
    bundles = {
        "mlp": [mlp_bundle(folder / "1.zip", seed=1), mlp_bundle(folder / "2.zip", seed=2)],
        "picture": [picture_bundle(folder / "p.zip")],
        "person": [text_bundle(folder / "t.zip")],
        "half": [half_bundle(folder / "h.zip")],
    }
    with serving(folder / "data", **settings) as made, Client(made.address) as client:
        for endpoint, versions in bundles.items():
            client.endpoints.create_endpoint(endpoint)
            for number, bundle in enumerate(versions, 1):
                export, gate = made.exports.add(f"{endpoint}-{number}", f"V{number:03d}", bundle)
                client.endpoints.create_deployment(endpoint, export=export, gate_decision=gate)
        yield made
