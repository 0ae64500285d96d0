"""Instance flavors: the file, what is wrong with it, and which one a job gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import InvalidArgument
from modelyard.core.jobs.flavors import Flavors, load_flavors, quantity

GOOD = [
    {"name": "cpu-small", "cpu": "500m", "memory": "1Gi"},
    {"name": "cpu-large", "cpu": 8, "memory": "32Gi", "default_for": ["export"]},
    {"name": "gpu-1", "cpu": "8", "memory": "16Gi", "gpu": 1, "node_selector": {"pool": "gpu"}},
    {"name": "gpu-2x2", "cpu": "8", "memory": "64Gi", "gpu": 2, "nodes": 2},
]


def written(folder: Path, content: Any, name: str = "flavors.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.fixture
def flavors(tmp_path: Path) -> Flavors:
    return load_flavors(written(tmp_path, {"flavors": GOOD}))


def test_without_a_file_there_is_this_machine() -> None:
    [local] = load_flavors(None).known
    assert (local.name, local.nodes, local.gpu) == ("local", 1, 0)
    assert local.cores >= 1
    assert local.memory_bytes > 1 << 20


def test_yaml_and_json_say_the_same(tmp_path: Path, flavors: Flavors) -> None:
    gpu = '{name: gpu-1, cpu: "8", memory: 16Gi, gpu: 1, node_selector: {pool: gpu}}'
    yaml = f"- {{name: cpu-small, cpu: 500m, memory: 1Gi}}\n- {gpu}\n"
    found = load_flavors(written(tmp_path, yaml, "flavors.yaml"))
    assert found.known == (flavors.known[0], flavors.known[2])


def test_the_default_is_the_first_unless_another_says_it_is(flavors: Flavors) -> None:
    assert flavors.choose("", "training", distributed=True).name == "cpu-small"
    assert flavors.choose("", "export", distributed=False).name == "cpu-large"


def test_an_unknown_one_is_refused_with_the_known_ones(flavors: Flavors) -> None:
    with pytest.raises(InvalidArgument) as caught:
        flavors.choose("gpu-9", "training", distributed=True)
    assert caught.value.reason == "UNKNOWN_INSTANCE_FLAVOR"
    assert "cpu-small, cpu-large, gpu-1, gpu-2x2" in caught.value.message


def test_several_nodes_are_for_what_can_use_them(flavors: Flavors) -> None:
    assert flavors.choose("gpu-2x2", "training", distributed=True).nodes == 2
    with pytest.raises(InvalidArgument) as caught:
        flavors.choose("gpu-2x2", "export", distributed=False)
    assert caught.value.reason == "FLAVOR_HAS_NODES"


def test_the_next_larger_one_keeps_what_the_job_has(flavors: Flavors) -> None:
    small, large, gpu, several = flavors.known
    assert flavors.larger(small) == large, "a GPU is no way to more memory"
    assert flavors.larger(gpu) == several
    assert flavors.larger(large) == several
    assert flavors.larger(several) is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "Gpu"}, "flavors[1].name"),
        ({"name": "cpu-small"}, "flavors[1].name"),
        ({"cpu": "many"}, "flavors[1].cpu"),
        ({"cpu": "0"}, "flavors[1].cpu"),
        ({"memory": "4 GB"}, "flavors[1].memory"),
        ({"gpu": -1}, "flavors[1].gpu"),
        ({"gpu": True}, "flavors[1].gpu"),
        ({"nodes": 0}, "flavors[1].nodes"),
        ({"nodes": 2, "min_nodes": 3}, "flavors[1].min_nodes"),
        ({"node_selector": {"gpu": True}}, "flavors[1].node_selector"),
        ({"tolerations": {"key": "gpu"}}, "flavors[1].tolerations"),
        ({"max_seconds": 1.5}, "flavors[1].max_seconds"),
        ({"colour": "red"}, "flavors[1].colour"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        load_flavors(written(tmp_path, [GOOD[0], {**GOOD[1], **change}]))
    assert caught.value.reason == "INVALID_FLAVOR"
    assert caught.value.message.startswith(field)


@pytest.mark.parametrize("content", ["[", "{}", "[]", "3", '{"flavors": {}}'])
def test_a_file_that_holds_no_flavors(tmp_path: Path, content: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        load_flavors(written(tmp_path, content))
    assert caught.value.reason == "BAD_FLAVORS_FILE"
    with pytest.raises(InvalidArgument):
        load_flavors(tmp_path / "there-is-none.yaml")


@given(st.text(max_size=12))
def test_quantities_are_numbers_or_refused(text: str) -> None:
    try:
        assert quantity(text) >= 0
    except ValueError:
        assert not text.isascii() or not text.isdigit()
