"""Short and full resource names, enum names, addresses, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.client import Addresses, InvalidArgument, Names, last_part, parent_of, short
from modelyard.client.enums import enum_number, short_name
from modelyard.dataset.v1 import dataset_pb2
from modelyard.trainer.v1 import trainer_pb2
from modelyard.type.v1 import learning_pb2

REPOSITORY = Path(__file__).parents[3]
ID = st.from_regex(r"[a-zA-Z][a-zA-Z0-9._-]{0,10}", fullmatch=True)


@given(ID, ID)
def test_every_form_of_a_name_means_the_same(dataset: str, version: str) -> None:
    names = Names("p")
    full = names.dataset_version(f"{dataset}/{version}")
    assert full == f"projects/p/datasets/{dataset}/versions/{version}"
    assert names.dataset_version(full) == full
    assert names.dataset_version(f"datasets/{dataset}/versions/{version}") == full
    assert short(full) == f"{dataset}/{version}"
    assert (last_part(full), parent_of(full)) == (version, names.dataset(dataset))


def test_a_version_left_out_is_the_newest_and_another_project_stays() -> None:
    assert Names().model_version("flowers") == "projects/default/models/flowers/versions/latest"
    assert Names().endpoint("projects/other/endpoints/e") == "projects/other/endpoints/e"


@pytest.mark.parametrize("value", ["", "a/b/c", "projects/p/models/m", "/", "datasets//versions/V1"])
def test_a_name_of_something_else_is_refused(value: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Names("p").dataset_version(value)
    assert caught.value.violations[0].field == "dataset_version"
    assert "projects/p/datasets/{dataset}/versions/{version}" in caught.value.message


def test_enum_values_by_short_name() -> None:
    assert enum_number(learning_pb2.Task, "image-classification", "task") == learning_pb2.TASK_IMAGE_CLASSIFICATION
    assert enum_number(learning_pb2.Task, "TASK_TABULAR_REGRESSION", "task") == learning_pb2.TASK_TABULAR_REGRESSION
    assert enum_number(dataset_pb2.SourceFormat, "csv", "format") == dataset_pb2.SOURCE_FORMAT_CSV
    assert enum_number(dataset_pb2.SplitPolicy.Source, "given", "source") == dataset_pb2.SplitPolicy.SOURCE_GIVEN
    assert enum_number(trainer_pb2.CheckpointKind, "best", "checkpoint") == trainer_pb2.CHECKPOINT_KIND_BEST
    assert enum_number(learning_pb2.Task, None, "task") == enum_number(learning_pb2.Task, "", "task") == 0
    assert short_name(learning_pb2.Task, learning_pb2.TASK_UNSPECIFIED) == ""


def test_addresses_name_the_service_that_has_none() -> None:
    assert Addresses.same("h:1").of("exporter") == "h:1"
    with pytest.raises(InvalidArgument, match="there is no service 'artefacts'"):
        Addresses.same("h:1").of("artefacts")


def test_the_sync_client_is_what_the_asyncio_source_gives() -> None:
    subprocess.run([sys.executable, "clients/generate_sync.py", "--check"], cwd=REPOSITORY, check=True)


def test_importing_the_package_loads_neither_grpc_nor_protobuf_nor_numpy() -> None:
    code = "import sys, modelyard.client; sys.exit(bool({'grpc', 'google.protobuf', 'numpy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_client_itself_loads_no_numpy() -> None:
    code = "import sys; from modelyard.client import Client, AsyncClient; sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
