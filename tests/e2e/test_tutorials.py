"""Every tutorial, as a reader goes: commands are typed in a home folder of their own, on real data (`make tutorials`: all)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tutorials import Page, Reader, pages, reader

pytestmark = [pytest.mark.slow, pytest.mark.data, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def somebody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    data = data_folder()
    if data is None:
        pytest.skip("no data sets: give their folder as MODELYARD_DATA")
    with reader(tmp_path_factory.mktemp("home"), data) as one:
        yield one


def data_folder() -> Path | None:
    given = os.environ.get("MODELYARD_DATA", "")
    places = [Path(given)] if given else [Path(__file__).resolve().parents[2] / ".." / "shared" / "data"]
    return next((place.resolve() for place in places if place.is_dir()), None)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_a_tutorial_goes_as_it_says(page: Page, somebody: Reader) -> None:
    if page.slow and not os.environ.get("MODELYARD_TUTORIALS"):
        pytest.skip("takes minutes; `make tutorials` runs it")
    missing = [name for name in page.needs if not (Path(somebody.environment["DATA"]) / name).exists()]
    if missing:
        pytest.skip(f"no data set {', '.join(missing)}")
    somebody.does(page)
