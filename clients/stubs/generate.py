"""Client stubs for Go and TypeScript, made of the contracts and compiled: `python clients/stubs/generate.py [go] [typescript]`.

Writes .build/stubs/go (a Go module; import path modelyard.local/stubs/...) and .build/stubs/typescript (ES modules of
protobuf-es, for Connect or grpc-js). Needs go, or node and npm, which fetch their generators from their own registries. Other
languages work the same way: the protos hold nothing of Python.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PROTOS: Final = ROOT / "protos"
GOOGLE: Final = Path(sysconfig.get_paths()["purelib"])
OUT: Final = ROOT / ".build" / "stubs"
MODULE: Final = "modelyard.local/stubs"
GO_TOOLS: Final = ("google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.6", "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1")
GO_NEEDS: Final = ("google.golang.org/protobuf@v1.36.6", "google.golang.org/grpc@v1.71.0")
NPM: Final = {"@bufbuild/protobuf": "2.2.5", "@bufbuild/protoc-gen-es": "2.2.5", "typescript": "5.8.2"}


def protos() -> list[str]:
    return sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))


def protoc(*arguments: str, path: str = "") -> None:
    """Runs protoc over all contracts; path: a folder of plug-ins."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{GOOGLE}", *arguments, *protos()]
    run(command, ROOT, PATH=f"{path}{os.pathsep}{os.environ['PATH']}" if path else os.environ["PATH"])


def run(command: list[str], folder: Path, **environment: str) -> None:
    subprocess.run(command, cwd=folder, env={**os.environ, **environment}, check=True)


def go() -> Path:
    """Generates and compiles the Go module."""
    out, tools = _fresh("go"), OUT / "tools"
    for tool in GO_TOOLS:
        run(["go", "install", tool], out, GOBIN=str(tools), GOFLAGS="-mod=mod")
    packages = [f"M{name}={MODULE}/{Path(name).parent}" for name in protos()]
    go_options = [f"--go_opt={package}" for package in packages] + [f"--go-grpc_opt={package}" for package in packages]
    relative = [f"--go_opt=module={MODULE}", f"--go-grpc_opt=module={MODULE}"]
    protoc(f"--go_out={out}", f"--go-grpc_out={out}", *relative, *go_options, path=str(tools))
    run(["go", "mod", "init", MODULE], out)
    for need in GO_NEEDS:
        run(["go", "get", need], out)
    run(["go", "mod", "tidy"], out)
    run(["go", "build", "./..."], out)
    return out


def typescript() -> Path:
    """Generates and type-checks the TypeScript modules."""
    out = _fresh("typescript")
    (out / "package.json").write_text(json.dumps({"name": "modelyard-stubs", "type": "module", "dependencies": NPM}, indent=1))
    options = {
        "strict": True,
        "target": "es2022",
        "module": "nodenext",
        "moduleResolution": "nodenext",
        "noEmit": True,
        "skipLibCheck": True,
    }
    (out / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["gen/**/*.ts"]}, indent=1))
    run(["npm", "install", "--silent", "--no-audit", "--no-fund"], out)
    (out / "gen").mkdir()
    google = [str(path.relative_to(GOOGLE)) for folder in ("google/rpc", "google/api") for path in _google(folder)]
    arguments = [f"--es_out={out / 'gen'}", "--es_opt=target=ts,import_extension=js"]
    protoc(*arguments, *google, path=str(out / "node_modules" / ".bin"))
    run(["npx", "tsc", "--project", "."], out)
    return out


def _google(folder: str) -> list[Path]:
    """The google protos that ours import."""
    wanted = {"status.proto", "field_behavior.proto", "error_details.proto"}
    return [path for path in sorted((GOOGLE / folder).glob("*.proto")) if path.name in wanted]


def _fresh(name: str) -> Path:
    shutil.rmtree(OUT / name, ignore_errors=True)
    (OUT / name).mkdir(parents=True)
    return OUT / name


def main() -> int:
    makers = {"go": (go, "go"), "typescript": (typescript, "npm")}
    for name in sys.argv[1:] or list(makers):
        maker, program = makers[name]
        if shutil.which(program) is None:
            print(f"{name}: left out, {program} is not here")
            continue
        print(f"{name}: compiled, in {maker().relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
