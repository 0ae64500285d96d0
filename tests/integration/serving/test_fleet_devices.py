"""Devices outside the cluster: enrolment, roll-outs, broken lines, power cuts; real processes over loopback."""

from __future__ import annotations

import json
import os
import random
import stat
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

from modelyard.serving.v1 import device_pb2, fleet_pb2
from modelyard.serving.v1 import device_service_pb2 as pb
from tests.support.bundles import mlp_bundle, spoil_vectors
from tests.support.cut_line import cut_line
from tests.support.fleet import PARENT, Fleet, fleet, trial
from tests.support.fleet_relay import relay
from tests.support.followers import until

DEVICES = [f"d{number}" for number in range(int(os.environ.get("MODELYARD_TEST_DEVICES", "6")))]


def confirmed(centre: Fleet, rollout: str) -> int:
    return list(centre.progress(rollout).values()).count("CONFIRMED")


def test_many_devices_take_a_version_by_stages_and_stop_at_a_bad_one(tmp_path: Path) -> None:
    """20 %, then all; then a version that fails its golden requests: it stops after the first stage, and nobody is worse off."""
    with fleet(tmp_path) as centre:
        first, second = centre.deploy("V001", 1), centre.deploy("V002", 2)
        bad = spoil_vectors(tmp_path / "bad.zip", mlp_bundle(tmp_path / "third.zip", seed=3))
        third = centre.deploy_unproved("V003", bad)
        for name in DEVICES:
            centre.start(name)
        until(lambda: all(process.health() == "SERVING" for process in centre.devices.values()))
        centre.roll_out("r1", first, trial=trial(0.1))
        until(lambda: centre.state("r1") == "SUCCEEDED")
        assert {process.version("net") for process in centre.devices.values()} == {"V001"}

        centre.roll_out("r2", second, trial=trial(0.3), stages=[20, 100])
        until(lambda: confirmed(centre, "r2") >= 2)
        until(lambda: centre.state("r2") == "SUCCEEDED")
        assert set(centre.progress("r2").values()) == {"CONFIRMED"}

        centre.roll_out("r3", third, trial=trial(0.3), stages=[20, 100], max_failures=1)
        until(lambda: centre.state("r3") == "PAUSED")
        told = centre.progress("r3")
        assert sorted(told.values()) == ["FAILED"] * 2 + ["PENDING"] * (len(DEVICES) - 2)
        assert "TEST_VECTORS_DIFFER" in centre.rollout("r3").state_message
        assert {process.version("net") for process in centre.devices.values()} == {"V002"}

        centre.people.RevertRollout(pb.RevertRolloutRequest(name=f"{PARENT}/rollouts/r3", reason="bad"))
        centre.people.RevertRollout(pb.RevertRolloutRequest(name=f"{PARENT}/rollouts/r2", reason="back to V001"))
        until(lambda: {process.version("net") for process in centre.devices.values()} == {"V001"})


def test_devices_work_without_the_centre_and_catch_up(tmp_path: Path) -> None:
    """A device that is started while the centre is away serves what it served, and counts; a roll-out meets it later."""
    with fleet(tmp_path) as centre:
        first, second = centre.deploy("V001", 1), centre.deploy("V002", 2)
        with cut_line(centre.world.address) as line:
            centre.address = line.address
            device = centre.start("d1")
            until(lambda: device.health() == "SERVING")
            centre.roll_out("r1", first, trial=trial(0.2))
            until(lambda: centre.state("r1") == "SUCCEEDED")
            line.open = False
            line.cut()
            until(lambda: centre.device("d1").state == device_pb2.Device.STATE_OFFLINE)
            centre.roll_out("r2", second, trial=trial(0.2))
            device.kill()
            device = centre.start("d1")
            until(lambda: device.health() == "SERVING")
            for _ in range(25):
                assert device.version("net") == "V001"
            assert centre.progress("r2") == {"d1": "OFFERED"}
            line.open = True
            until(lambda: centre.state("r2") == "SUCCEEDED")
            until(lambda: device.version("net") == "V002")
            report = centre.device("d1").report
            assert report.number > 0
            counted = {each.version: each.statistics.successes for each in report.versions}
            assert counted.get("V002", 0) <= 1
            keys = tmp_path / "d1" / "follower"
            assert {stat.S_IMODE((keys / name).stat().st_mode) for name in ("device.pem", "identity.json", "memory.json")} == {
                0o600
            }


def test_a_broken_download_goes_on_where_it_was(tmp_path: Path) -> None:
    """The line is cut again and again in the middle of 24 MB: every byte comes about once."""
    with fleet(tmp_path) as centre:
        big = centre.deploy("V001", 1, mlp_bundle(tmp_path / "big.zip", hidden=2500, layers=2))
        size = (tmp_path / "big.zip").stat().st_size
        assert size > 20_000_000
        with cut_line(centre.world.address) as line:
            centre.address = line.address
            device = centre.start("d1")
            until(lambda: device.health() == "SERVING")
            line.cut()
            before, line.most = line.passed, 6_000_000
            centre.roll_out("r1", big, trial=trial(0.1))
            until(lambda: centre.state("r1") == "SUCCEEDED")
            assert line.cuts >= 3
            assert line.passed - before < 2 * size
            assert device.version("net") == "V001"


def test_power_cuts_at_any_moment_leave_a_version_that_answers(tmp_path: Path) -> None:
    """kill -9 at random moments, while one version takes the place of another: it answers again, and ends up right."""
    chance = random.Random(7)
    with fleet(tmp_path) as centre:
        versions = [centre.deploy(f"V00{number}", number) for number in (1, 2, 3)]
        device = centre.start("d1")
        until(lambda: device.health() == "SERVING")
        centre.roll_out("r1", versions[0], trial=trial(0.1))
        until(lambda: centre.state("r1") == "SUCCEEDED")
        for number, version in enumerate(versions[1:], start=2):
            centre.roll_out(f"r{number}", version, trial=trial(0.3))
            for _ in range(2):
                time.sleep(chance.uniform(0, 1.2))
                device.kill()
                device = centre.start("d1")
                until(device.is_serving)
                assert device.version("net") in (f"V00{number - 1}", f"V00{number}")
            until(partial(centre.has_succeeded, f"r{number}"))
            assert device.version("net") == f"V00{number}"


def test_a_stolen_token_is_good_for_nothing_and_a_revoked_device_is_refused(tmp_path: Path) -> None:
    with fleet(tmp_path) as centre:
        first = centre.deploy("V001", 1)
        token = centre.token(name_pattern="d*")
        device = centre.start("d1", token)
        until(lambda: device.health() == "SERVING")
        thief = centre.start("d2", token)
        until(lambda: thief.process.poll() is not None)
        assert b"ENROLMENT_TOKEN_USED" in thief.log.read_bytes()
        named = centre.start("x1", centre.token(name_pattern="d*"))
        until(lambda: named.process.poll() is not None)
        assert b"NAME_NOT_ALLOWED" in named.log.read_bytes()

        centre.roll_out("r1", first, trial=trial(0.1))
        until(lambda: centre.state("r1") == "SUCCEEDED")
        centre.people.RevokeDevice(pb.RevokeDeviceRequest(name=f"{PARENT}/devices/d1"))
        until(lambda: b"DEVICE_REVOKED" in device.log.read_bytes())
        assert device.version("net") == "V001"  # what it serves it goes on serving
        assert centre.device("d1").state == device_pb2.Device.STATE_REVOKED
        with pytest.raises(grpc.RpcError) as caught:
            centre.roll_out("r2", first)
        assert "NO_DEVICES" in str(caught.value.trailing_metadata()) or "no device" in caught.value.details()

        device.stop()
        device = centre.start("d1", centre.token(replace=True))
        until(lambda: centre.device("d1").state == device_pb2.Device.STATE_ONLINE)
        until(lambda: device.version("net") == "V001")


def test_whoever_sits_on_the_line_can_neither_change_a_bundle_nor_send_an_old_state_again(tmp_path: Path) -> None:
    with fleet(tmp_path) as centre, relay(centre.world.address) as line:
        first, second = centre.deploy("V001", 1), centre.deploy("V002", 2)
        centre.address = line.address
        device = centre.start("d1")
        until(device.is_serving)
        centre.roll_out("r1", first, trial=trial(0.1))
        until(partial(centre.has_succeeded, "r1"))
        old = line.states[-1]
        assert [model.versions[0].version for model in fleet_pb2.DesiredState.FromString(old.payload).models] == ["V001"]

        line.spoil = True
        centre.roll_out("r2", second, trial=trial(0.1))
        until(lambda: centre.state("r2") == "PAUSED")
        assert "BUNDLE_CORRUPT" in centre.rollout("r2").state_message
        assert line.spoilt >= 3  # it tries again: lines spoil bytes by themselves, too
        assert device.version("net") == "V001"
        centre.people.CancelRollout(pb.CancelRolloutRequest(name=f"{PARENT}/rollouts/r2"))
        line.spoil = False
        centre.roll_out("r3", second, trial=trial(0.1))
        until(partial(centre.has_succeeded, "r3"))
        assert device.version("net") == "V002"

        line.replayed = old  # the centre itself signed it, for this device
        until(lambda: "STATE_TOO_OLD" in centre.device("d1").report.message)
        assert line.replays > 0
        assert device.version("net") == "V002"
        device.kill()
        device, before = centre.start("d1"), line.replays
        until(lambda: device.is_serving() and line.replays > before)
        assert device.version("net") == "V002"
        line.replayed = None
        until(lambda: not centre.device("d1").report.message)
        assert device.version("net") == "V002"


def test_the_command_line_from_a_token_to_a_version_and_back(tmp_path: Path) -> None:
    """To an older version only where that is said."""
    with fleet(tmp_path) as centre:
        centre.deploy("V001", 1)
        centre.deploy("V002", 2)

        def modelyard(*words: str) -> Any:
            return json.loads(command(*words, "--server", centre.world.address, "--json", folder=tmp_path))

        token = modelyard("device", "enrol-token", "--name", "cam-*", "--label", "site=berlin", "--expires", "1h")
        device = centre.start("cam-7", token["token"])
        until(device.is_serving)
        assert modelyard("device", "label", "cam-7", "floor=2")["labels"] == {"site": "berlin", "floor": "2"}
        assert [one["name"] for one in modelyard("device", "list", "--label", "floor=2")["devices"]] == [
            f"{PARENT}/devices/cam-7"
        ]
        modelyard("rollout", "create", "net/V001", "--label", "site=berlin", "--watch", "0.2s", "--name", "r1")
        until(partial(centre.has_succeeded, "r1"))
        modelyard("rollout", "create", "net/V002", "--device", "cam-7", "--watch", "0.2s", "--name", "r2")
        until(partial(centre.has_succeeded, "r2"))
        shown = modelyard("device", "show", "cam-7")
        assert shown["assignments"][0]["version"] == "V002"

        modelyard("rollout", "create", "net/V001", "--watch", "0.2s", "--name", "r3")
        until(lambda: centre.state("r3") == "PAUSED")
        assert "DOWNGRADE_REFUSED" in centre.rollout("r3").state_message
        modelyard("rollout", "cancel", "r3")
        assert device.version("net") == "V002"
        modelyard("rollout", "create", "net/V001", "--watch", "0.2s", "--name", "r4", "--allow-downgrade")
        until(partial(centre.has_succeeded, "r4"))
        assert device.version("net") == "V001"
        assert command("rollout", "show", "r4", "--server", centre.world.address, folder=tmp_path)
        assert modelyard("device", "delete", "cam-7")["deleted"] == f"{PARENT}/devices/cam-7"


def command(*words: str, folder: Path) -> str:
    """What the command line prints; fails where it does."""
    environment = {**os.environ, "HOME": str(folder)}
    run = subprocess.run([sys.executable, "-m", "modelyard.cli", *words], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    return run.stdout
