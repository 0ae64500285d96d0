"""Jobs within the quotas of their project: what waits, what is refused, what the file may say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.access.quotas import Quotas
from modelyard.core.database import migrate, open_database, to_json
from modelyard.core.errors import InvalidArgument, ResourceExhausted
from modelyard.core.jobs.engine import _new_job
from modelyard.core.jobs.job import Job, JobKind, JobState
from modelyard.core.jobs.store import JobStore

KIND = JobKind(kind="training", service="trainer", worker_module="m")


def job(name: str, project: str = "flowers", gpus: int = 0) -> Job:
    made = _new_job(f"projects/{project}/trainingJobs/{name}", KIND, f"projects/{project}", {}, {"gpus": str(gpus)})
    return replace(made)


@pytest.fixture
def quotas(tmp_path: Path) -> Quotas:
    path = tmp_path / "quotas.json"
    limits = {"jobs_running": 1, "jobs_queued": 1, "gpus": 2}
    path.write_text(json.dumps({"defaults": {"jobs_queued": 3}, "projects": {"flowers": limits}}))
    engine = open_database(f"sqlite:///{tmp_path / 'x.db'}")
    migrate(engine)
    return Quotas(engine, ["trainer"], path, gpus_of=lambda one: int(dict(one.labels)["gpus"]))


def test_jobs_wait_for_a_place_and_leave_it(quotas: Quotas) -> None:
    first, second = job("a"), job("b")
    assert quotas.enter(first)
    assert quotas.enter(first)
    assert not quotas.enter(second)
    assert quotas.enter(job("c", "weeds"))
    quotas.leave(first.name)
    assert quotas.enter(second)


@given(
    st.recursive(
        st.text('{}"\\:artifact/', max_size=8)
        | st.integers()
        | st.fixed_dictionaries(
            {"uri": st.sampled_from(["artifact://trainer/a", "artifact://other/b", "a{b}"]), "size_bytes": st.integers(0)}
        ),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["uri", "x", "size_bytes", "}"]), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_what_a_document_names_is_found_in_its_text(document: Any) -> None:
    counting = Quotas(open_database("sqlite:///never-opened.db"), ["trainer"], None)
    assert sorted(counting._in_text(to_json(document))) == sorted(counting._in_document(document))


def test_gpus_count_together(quotas: Quotas, tmp_path: Path) -> None:
    path = tmp_path / "gpus.json"
    path.write_text('{"projects": {"flowers": {"gpus": 2}}}')
    made = Quotas(quotas._engine, [], path, gpus_of=lambda one: int(dict(one.labels)["gpus"]))
    assert made.enter(job("a", gpus=1))
    assert not made.enter(job("b", gpus=2))
    assert made.enter(job("c", gpus=1))
    assert made.enter(job("d"))
    assert {name: used for name, _, used in made.use("flowers")}["gpus"] == 2


def test_what_waits_too_long_a_queue_is_refused(quotas: Quotas) -> None:
    store = JobStore(quotas._engine)
    store.admit = quotas.admit
    store.create(job("a"))
    store.create(job("b"))
    with pytest.raises(ResourceExhausted) as caught:
        store.create(job("c"))
    assert (caught.value.quota, caught.value.subject) == ("jobs_queued", "projects/flowers")
    assert caught.value.values["limit"] == "1"
    store.end(job("a").name, JobState.CANCELLED, "CANCELLED")
    store.create(job("c"))


def test_the_same_request_is_answered_also_when_the_queue_is_full(quotas: Quotas) -> None:
    store = JobStore(quotas._engine)
    store.admit = quotas.admit
    made = [store.create(job(name), request_id=name, method="m", fingerprint="f")[0].name for name in ("a", "b")]
    again, is_new = store.create(job("other"), request_id="b", method="m", fingerprint="f")
    assert (again.name, is_new) == (made[1], False)


def test_a_job_that_could_never_run_is_refused_at_once(quotas: Quotas) -> None:
    store = JobStore(quotas._engine)
    store.admit = quotas.admit
    with pytest.raises(ResourceExhausted, match="gpus"):
        store.create(job("a", gpus=3))


WRONG_ONES = ({"projects": {"a": {"jobs": 1}}}, {"defaults": {"gpus": -1}}, {"defaults": {"gpus": "2GB"}}, {"x": {}}, [])
WRONG = ("{", *map(json.dumps, WRONG_ONES))


@pytest.mark.parametrize("content", WRONG)
def test_a_file_that_is_wrong_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "quotas.json"
    path.write_text(content)
    with pytest.raises(InvalidArgument):
        Quotas(open_database(f"sqlite:///{tmp_path / 'x.db'}"), [], path)
