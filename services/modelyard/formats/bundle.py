"""The bundle: one exported model with everything that is needed to serve it and to prove that it answers as it should.

A bundle is a zip whose entries are stored (not compressed) with fixed times, so that equal content gives equal bytes:

* `bundle.json`   the card: inputs, outputs, picture decoding, classes, columns, origin, parity, sha256 and size of each file
* the files of its format (formats.bundle_files.FORMATS): `model.onnx`, `model.tflite`, ...; nothing in them refers outside
* `labels.txt`    one class per line, in the order of the model's outputs; empty for regression
* `test_vectors.safetensors` or `.json`   real example inputs and the outputs to expect (JSON where an input holds text)
* `statistics.json`   what training data and answers looked like (formats.training_statistics); older bundles have none
* `calibration.txt`   of some quantized models: ids of the examples that ranges were measured on, one a line, as drawn

Whatever the format, a bundle answers the signature on its card: `image` uint8 [N, H, W, C] or one tensor a column goes in.
What the graph itself takes (one example at a time, scaled, quantized, another layout) is hidden by modelyard.runtime.

Reading trusts nothing: every listed sha256 and size is checked, and files that are missing, not listed, compressed, twice there,
badly named, of another format or larger than the caps are refused.
"""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from modelyard.formats.bundle_card import (
    DATATYPES as DATATYPES,
)
from modelyard.formats.bundle_card import (
    FORMAT_VERSION as FORMAT_VERSION,
)
from modelyard.formats.bundle_card import (
    BundleCard as BundleCard,
)
from modelyard.formats.bundle_card import (
    CalibrationCard as CalibrationCard,
)
from modelyard.formats.bundle_card import (
    ColumnInput as ColumnInput,
)
from modelyard.formats.bundle_card import (
    Parity as Parity,
)
from modelyard.formats.bundle_card import (
    PictureInput as PictureInput,
)
from modelyard.formats.bundle_card import (
    QuantizationCard as QuantizationCard,
)
from modelyard.formats.bundle_card import (
    Source as Source,
)
from modelyard.formats.bundle_card import (
    TensorMap as TensorMap,
)
from modelyard.formats.bundle_card import (
    TensorSpec as TensorSpec,
)
from modelyard.formats.bundle_card import (
    TextNumbers as TextNumbers,
)
from modelyard.formats.bundle_card import (
    card_json as card_json,
)
from modelyard.formats.bundle_card import (
    check_card,
    format_files,
)
from modelyard.formats.bundle_card import (
    parse_card as parse_card,
)
from modelyard.formats.bundle_files import (
    CALIBRATION as CALIBRATION,
)
from modelyard.formats.bundle_files import (
    CAPS as CAPS,
)
from modelyard.formats.bundle_files import (
    CARD as CARD,
)
from modelyard.formats.bundle_files import (
    FORMATS as FORMATS,
)
from modelyard.formats.bundle_files import (
    LABELS as LABELS,
)
from modelyard.formats.bundle_files import (
    MODEL as MODEL,
)
from modelyard.formats.bundle_files import (
    STATISTICS as STATISTICS,
)
from modelyard.formats.bundle_files import (
    FileEntry as FileEntry,
)
from modelyard.formats.bundle_files import (
    check_files,
    entry_of,
    extract_files,
    refuse,
    safe_entries,
    write_zip,
)
from modelyard.formats.bundle_vectors import (
    VECTORS_JSON as VECTORS_JSON,
)
from modelyard.formats.bundle_vectors import (
    VECTORS_SAFETENSORS as VECTORS_SAFETENSORS,
)
from modelyard.formats.bundle_vectors import (
    TestVectors as TestVectors,
)
from modelyard.formats.bundle_vectors import (
    vectors_file,
    vectors_from_json,
    vectors_from_safetensors,
)
from modelyard.formats.foreign import foreign_file
from modelyard.formats.training_statistics import TrainingStatistics, parse_statistics, statistics_json

Array = NDArray[Any]


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk."""

    path: Path
    card: BundleCard

    @property
    def model_size(self) -> int:
        """Bytes of the files that a device must hold to run the model."""
        files = FORMATS[self.card.format]
        return sum(self.card.files[name].size_bytes for name in (*files.model, *files.optional_model) if name in self.card.files)

    def model_bytes(self) -> bytes:
        """The main file of the format (the graph), checked again against its sha256."""
        return self._read(FORMATS[self.card.format].main)

    def model_files(self) -> dict[str, bytes]:
        """Every file of the format, the extras too, by its name inside the bundle, each checked again."""
        return {name: self._read(name) for name in sorted(self.card.files) if name in FORMATS[self.card.format].allowed}

    def calibration_ids(self) -> tuple[str, ...]:
        """Ids of the examples that ranges were measured on, in the order of the draw; empty when the bundle holds none."""
        if CALIBRATION not in self.card.files:
            return ()
        return _lines(self._read(CALIBRATION))

    def statistics(self) -> TrainingStatistics | None:
        """What the training data looked like; None where the bundle does not say. Raises InvalidArgument INVALID_STATISTICS."""
        return parse_statistics(self._read(STATISTICS)) if STATISTICS in self.card.files else None

    def extract(self, directory: Path, *, only_model: bool = False) -> list[Path]:
        """Writes the bundle's files into a folder, each checked, and gives their paths; `only_model`: those of the format alone.

        Only listed files are written (and the card), never over a file that is there. On an error nothing stays.
        Raises AlreadyExists FILE_EXISTS, InvalidArgument INVALID_BUNDLE when the bundle changed after it was opened.
        """
        listed = dict(self.card.files)
        if only_model:
            names = tuple(sorted(listed.keys() & FORMATS[self.card.format].allowed))
        else:
            listed[CARD] = entry_of(card_json(self.card))
            names = tuple(sorted(listed))
        return extract_files(self.path, listed, names, directory)

    def test_vectors(self) -> TestVectors:
        """The example inputs and expected outputs. Raises InvalidArgument (INVALID_BUNDLE) when they do not fit the card."""
        name, read = (VECTORS_JSON, vectors_from_json)
        if name not in self.card.files:
            name, read = (VECTORS_SAFETENSORS, vectors_from_safetensors)
        data = self._read(name)
        try:
            vectors = read(data)
        except Exception as error:  # safetensors, json and numpy raise many kinds on bytes that are something else
            raise refuse(self.path, f"{name} cannot be read ({error!r:.200})", file=name) from error
        _check_vectors(self.path, self.card, vectors)
        return vectors

    def _read(self, name: str) -> bytes:
        try:
            with zipfile.ZipFile(self.path) as archive:
                data = archive.read(name)
        except (zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
            raise refuse(self.path, f"{name} changed after the bundle was opened ({error})", file=name) from error
        if entry_of(data) != self.card.files[name]:
            raise refuse(self.path, f"{name} changed after the bundle was opened", file=name)
        return data


def write_bundle(path: Path, card: BundleCard, files: bytes | Mapping[str, bytes], vectors: TestVectors) -> BundleCard:
    """Writes the bundle at `path` at once (temporary name, fsync, rename) and returns its card with `files` filled in.

    `files` are those of the card's format by name, and `calibration.txt` and `statistics.json` where there are some; for a format
    of one file its bytes alone will do. Raises InvalidArgument INVALID_BUNDLE naming what does not fit; then nothing is written.
    """
    if isinstance(files, bytes):
        files = {format_files(path, card.format).main: files}
    name, data = vectors_file(vectors)
    _check_given(path, files)
    files = {**files, LABELS: _labels_text(card.classes), name: data}
    card = dataclasses.replace(card, files={key: entry_of(value) for key, value in sorted(files.items())})
    check_card(path, card)
    _check_calibration(path, card, files.get(CALIBRATION))
    _check_vectors(path, card, vectors)
    write_zip(path, {CARD: card_json(card), **files})
    return card


def add_statistics(path: Path, statistics: TrainingStatistics) -> BundleCard:
    """Writes the bundle at `path` again, at once, with these statistics in it; its card."""
    bundle = open_bundle(path)
    extras = {name: bundle._read(name) for name in (CALIBRATION,) if name in bundle.card.files}
    files = {**bundle.model_files(), **extras, STATISTICS: statistics_json(statistics)}
    return write_bundle(path, bundle.card, files, bundle.test_vectors())


def open_bundle(path: Path) -> Bundle:
    """Reads the card and checks every file of the bundle against it.

    Raises InvalidArgument with reason INVALID_BUNDLE, naming the file and what is wrong with it.
    """
    _check_foreign(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = safe_entries(path, archive)
            card = parse_card(archive.read(entries[CARD]), path)
            check_files(path, archive, entries, card.files)
            _check_texts(path, archive, card)
            _check_statistics(archive, card)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OverflowError) as error:
        raise refuse(path, f"not a readable zip file ({error})") from error
    return Bundle(path, card)


def _check_foreign(path: Path) -> None:
    """A model file that somebody took for a bundle is called what it is."""
    found = foreign_file(path)
    if found is not None:
        what = f"it is no bundle but {found.what}; {found.instead}, and import it (modelyard import model)"
        raise refuse(path, what)


def _check_given(path: Path, files: Mapping[str, bytes]) -> None:
    for name in sorted(files.keys() & {CARD, LABELS, VECTORS_JSON, VECTORS_SAFETENSORS}):
        raise refuse(path, f"{name} is written from the card and the test vectors, it cannot be given", file=name)


def _check_texts(path: Path, archive: zipfile.ZipFile, card: BundleCard) -> None:
    if archive.read(LABELS) != _labels_text(card.classes):
        raise refuse(path, f"{LABELS} does not hold the card's classes", file=LABELS)
    _check_calibration(path, card, archive.read(CALIBRATION) if CALIBRATION in card.files else None)


def _check_statistics(archive: zipfile.ZipFile, card: BundleCard) -> None:
    if STATISTICS in card.files:
        parse_statistics(archive.read(STATISTICS))


def _check_calibration(path: Path, card: BundleCard, text: bytes | None) -> None:
    """The ids are those that the card counts and whose digest it holds."""
    if text is None:
        return
    if card.calibration is None or entry_of(text).sha256 != card.calibration.digest:
        raise refuse(path, f"the card's calibration.digest is not the sha256 of {CALIBRATION}", file=CALIBRATION)
    try:
        count = len(_lines(text))
    except UnicodeDecodeError as error:
        raise refuse(path, f"{CALIBRATION} is not UTF-8 text", file=CALIBRATION) from error
    if count != card.calibration.examples:
        raise refuse(path, f"{CALIBRATION} holds {count} ids, the card says {card.calibration.examples}", file=CALIBRATION)


def _check_vectors(path: Path, card: BundleCard, vectors: TestVectors) -> None:
    for specs, arrays in ((card.inputs, vectors.inputs), (card.outputs, vectors.outputs)):
        if {spec.name for spec in specs} != set(arrays):
            raise refuse(path, f"test vectors hold {sorted(arrays)}, the card names {[spec.name for spec in specs]}")
        for spec in specs:
            array = arrays[spec.name]
            if array.shape != (vectors.count, *spec.shape[1:]) or array.dtype.name != DATATYPES[spec.datatype]:
                raise refuse(path, f"test vector {spec.name} is {array.dtype.name} {list(array.shape)}, the card says {spec}")
            if spec.datatype == "BYTES" and not all(isinstance(value, str) for value in array.ravel()):
                raise refuse(path, f"test vector {spec.name} holds values that are no text")


def _labels_text(classes: tuple[str, ...]) -> bytes:
    lines = (name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") + "\n" for name in classes)
    return "".join(lines).encode()


def _lines(text: bytes) -> tuple[str, ...]:
    """One a line; only \n ends one, since an id may hold what else Unicode counts as a line's end."""
    return tuple(text.decode().removesuffix("\n").split("\n"))
