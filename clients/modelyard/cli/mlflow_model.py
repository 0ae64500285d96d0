"""The ONNX file of an MLflow model: a folder with a file MLmodel, whose flavor `onnx` names it. Nothing of MLflow is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from modelyard.cli.asking import wrong

CARD: Final = "MLmodel"
LARGEST_CARD: Final = 1 << 20


def model_file(path: Path) -> Path:
    """The file to import: the path itself, or of an MLflow model its ONNX file. InvalidArgument where it has none."""
    if not path.is_dir():
        return path
    card = path / CARD
    if not card.is_file():
        raise wrong(
            "file",
            path,
            f"file is {str(path)!r}, a folder without a file {CARD}; give a model's file, or an MLflow model's folder",
        )
    flavors = _flavors(card)
    onnx = flavors.get("onnx")
    if not isinstance(onnx, dict):
        held = ", ".join(sorted(flavors)) or "none"
        why = f"an MLflow model with the flavors {held}; those are pickles or need their library: log it as onnx"
        raise wrong("file", path, f"file is {str(path)!r}, {why}")
    found = (path / str(onnx.get("data") or "model.onnx")).resolve()
    if not found.is_relative_to(path.resolve()) or not found.is_file():
        raise wrong("file", path, f"file is {str(path)!r}, whose {CARD} names {onnx.get('data')!r}, which is not in it")
    return found


def _flavors(card: Path) -> dict[str, Any]:
    import yaml

    if card.stat().st_size > LARGEST_CARD:
        raise wrong("file", card, f"file is {str(card)!r}, which is too large for an {CARD}")
    try:
        document = yaml.safe_load(card.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise wrong("file", card, f"file is {str(card)!r}, which is no YAML: {str(error).splitlines()[0]}") from None
    flavors = document.get("flavors") if isinstance(document, dict) else None
    return flavors if isinstance(flavors, dict) else {}
