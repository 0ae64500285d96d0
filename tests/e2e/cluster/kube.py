"""What the cluster tests need of kubectl and helm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

LOCAL_BIN = Path.home() / ".cache" / "local-cluster" / "bin"
LONG = pytest.mark.skipif(not os.environ.get("MODELYARD_E2E_LONG"), reason="it takes minutes: MODELYARD_E2E_LONG=1 runs it")
REPOSITORY = Path(__file__).parents[3]
CHART = REPOSITORY / "deploy" / "helm" / "modelyard"


def program(name: str) -> str:
    """helm or kubectl: on the PATH, or as ../shared/cluster built it."""
    for place in (shutil.which(name), LOCAL_BIN / name, LOCAL_BIN / "one" / name):
        if place and os.access(place, os.X_OK):
            return str(place)
    raise FileNotFoundError(f"{name} is neither on the PATH nor in {LOCAL_BIN}")


class Kube:
    """One namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def run(self, *arguments: str, check: bool = True, given: str | None = None, timeout_s: float = 600) -> str:
        """kubectl; its output."""
        command = [program("kubectl"), "-n", self.namespace, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, input=given, timeout=timeout_s)
        assert done.returncode == 0 or not check, f"kubectl {' '.join(arguments)[:200]}: {done.stderr[:2000]}"
        return done.stdout

    def get(self, *what: str) -> Any:
        """Objects as kubectl gives them."""
        return json.loads(self.run("get", *what, "-o", "json"))

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Objects of a kind."""
        found: list[dict[str, Any]] = self.get(kind, *(["-l", selector] if selector else []))["items"]
        return found

    def pods(self, component: str) -> list[str]:
        """Names of the pods of a component that are not going."""
        selector = f"app.kubernetes.io/component={component}"
        return [pod["metadata"]["name"] for pod in self.items("pods", selector) if "deletionTimestamp" not in pod["metadata"]]

    def secret(self, name: str, key: str) -> bytes:
        """A value of a Secret."""
        import base64

        return base64.b64decode(self.get("secret", name)["data"][key])

    def helm(self, *arguments: str, check: bool = True, timeout_s: float = 1200) -> str:
        """helm; its output."""
        command = [program("helm"), "-n", self.namespace, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
        assert done.returncode == 0 or not check, f"helm {' '.join(arguments)[:200]}: {done.stderr[-2000:]}\n{self.state()}"
        return done.stdout

    def state(self) -> str:
        """What is wrong, for a message."""
        return (
            self.run("get", "pods,jobs", "-o", "wide", check=False)
            + self.run("get", "events", "--sort-by=.lastTimestamp", check=False)[-3000:]
        )


def until(what: str, condition: Callable[[], Any], timeout_s: float, every_s: float = 1.0) -> Any:
    """The first true value of a condition. AssertionError when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        if found := condition():
            return found
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(every_s)


def buildable(images: Sequence[str]) -> list[str]:
    """Image names as the chart makes them from a registry's prefix."""
    prefix, tag = os.environ.get("MODELYARD_E2E_REGISTRY", "docker.io/local"), os.environ.get("MODELYARD_E2E_TAG", "dev")
    return [f"{prefix}/modelyard-{name}:{tag}" for name in images]
