"""The contracts as clients in Go and TypeScript: generated and compiled by the compilers of these languages (`make stubs`).

Their generators come from their own registries: where these, or a compiler, are not at hand nothing is tested, and the reason is
said. Also with CI=true: a registry that does not answer is no fault of the contracts.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

GENERATE = Path(__file__).parents[2] / "clients" / "stubs" / "generate.py"
ANSWERS_S = 30

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_stubs", GENERATE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def not_at_hand(language: str, folder: Path) -> str:
    """What is missing to compile a language here; empty: nothing."""
    made = generator()
    programs = ["go"] if language == "go" else ["node", "npm", "npx"]
    if missing := [program for program in programs if shutil.which(program) is None]:
        return f"{', '.join(missing)} is not installed"
    if language == "go":
        command = ["go", "list", "-m", "-mod=mod", *made.GO_NEEDS]
    else:
        command = ["npm", "view", "--fetch-retries=0", f"@bufbuild/protobuf@{made.NPM['@bufbuild/protobuf']}", "version"]
    try:
        asked = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=ANSWERS_S, check=False)
    except subprocess.TimeoutExpired:
        return f"the registry of {language} does not answer within {ANSWERS_S} s"
    return "" if asked.returncode == 0 else f"the registry of {language} does not answer: {asked.stderr.strip()[-300:]}"


@pytest.mark.parametrize("language", ["go", "typescript"])
def test_the_contracts_compile_as_clients(language: str, tmp_path: Path) -> None:
    if why := not_at_hand(language, tmp_path):
        pytest.skip(why)
    made = subprocess.run([sys.executable, GENERATE, language], capture_output=True, text=True, check=False)
    if made.returncode and (why := not_at_hand(language, tmp_path)):  # it went away meanwhile
        pytest.skip(why)
    assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-3000:]
