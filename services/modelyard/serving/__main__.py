"""python -m modelyard.serving: the serving service; with --bundle FILE: exported models alone, without any other service."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from modelyard.core.errors import InvalidArgument, ModelyardError
from modelyard.serving.settings import ServingSettings

FOLLOW_VARIABLE = "MODELYARD_FOLLOW_ADDRESS"
FOLLOW_OPTIONS = ("endpoint", "target", "token_file", "enrol_token_file", "device_id", "cache")


def main(arguments: list[str] | None = None) -> int:
    """Gives the exit status: 0 after a signal, 2 for what cannot be served."""
    parser = argparse.ArgumentParser(
        prog="python -m modelyard.serving",
        description="Serves the deployments of its database; settings come from MODELYARD_* environment variables.",
        epilog="example: python -m modelyard.serving --bundle flowers.zip --name flowers --port 8971",
    )
    parser.add_argument("--bundle", type=Path, action="append", help="serve this exported model, without a database; repeatable")
    parser.add_argument("--name", action="append", help="the model's name, one a --bundle (default: the file's without ending)")
    parser.add_argument(
        "--passport", type=Path, action="append", help="its passport; needed where MODELYARD_PASSPORT_TRUSTED_KEYS is set"
    )
    parser.add_argument(
        "--follow", metavar="ADDRESS", help="serve what the serving service at host:port says, without a database"
    )
    parser.add_argument("--endpoint", help="with --follow: projects/{project}/endpoints/{endpoint} that this pod serves")
    parser.add_argument("--target", help="with --follow: the pod's target: cpu, gpu, edge")
    parser.add_argument("--token-file", type=Path, help="with --follow: file with the pod's token")
    parser.add_argument("--enrol-token-file", type=Path, help="with --follow: file with a device's one-time token; used once")
    parser.add_argument("--device-id", help="with --follow: the name that the device wants when it enrols")
    parser.add_argument("--cache", metavar="ADDRESS", help="with --follow: host:port that is asked for bundles first")
    parser.add_argument("--host", help="address to listen on with --bundle or --follow (default: MODELYARD_HOST or 127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on, likewise (default: MODELYARD_PORT or a free one)")
    given = parser.parse_args(arguments)
    for option in ("name", "passport"):
        if getattr(given, option) and len(getattr(given, option)) != len(given.bundle or ()):
            parser.error(f"--{option} goes with --bundle, once with each, in the same order, or not at all")
    if given.bundle is not None:
        return _serve_bundles(given)
    if given.follow is not None or os.environ.get(FOLLOW_VARIABLE):
        return _follow(given)
    for option in FOLLOW_OPTIONS:
        if getattr(given, option):
            parser.error(f"--{option.replace('_', '-')} goes with --follow")
    if given.host or given.port is not None:
        parser.error("--host and --port go with --bundle; without it use MODELYARD_HOST and MODELYARD_PORT")
    from modelyard.core.platform import run_service_main
    from modelyard.serving.bootstrap import build

    return run_service_main("serving", build, ServingSettings)


def _serve_bundles(given: argparse.Namespace) -> int:
    from modelyard.core.rpc.logs import configure_logs
    from modelyard.core.rpc.loop import run
    from modelyard.serving.bundle_server import Offered, serve_bundles

    names = given.name or [bundle.stem for bundle in given.bundle]
    passports = given.passport or [None] * len(given.bundle)
    try:
        settings = ServingSettings(**_overrides(given))
        configure_logs(settings.log_format, settings.log_level)
        for option in ("bundle", "passport"):
            for path in getattr(given, option) or ():
                _check_file(path, option)
        offered = [Offered(*each) for each in zip(given.bundle, names, passports, strict=True)]
        run(serve_bundles(offered, settings, partial(_say_ready, ", ".join(names), settings.host)))
    except (ModelyardError, ValueError) as error:  # ValueError: a setting that is wrong, named by pydantic
        message = f"{error.reason}: {error.message}" if isinstance(error, ModelyardError) else str(error)
        sys.stderr.write(f"modelyard serving: {message}\n")
        return 2
    return 0


def _follow(given: argparse.Namespace) -> int:
    from modelyard.core.rpc.logs import configure_logs
    from modelyard.core.rpc.loop import run
    from modelyard.serving.follower_server import serve_following
    from modelyard.serving.follower_settings import FollowerSettings

    try:
        settings = FollowerSettings(**_overrides(given), **_followed(given))
        configure_logs(settings.log_format, settings.log_level)
        run(serve_following(settings, partial(_say_ready, f"what {settings.follow_address} says", settings.host)))
    except (ModelyardError, ValueError) as error:
        message = f"{error.reason}: {error.message}" if isinstance(error, ModelyardError) else str(error)
        sys.stderr.write(f"modelyard serving: {message}\n")
        return 2
    return 0


def _followed(given: argparse.Namespace) -> dict[str, Any]:
    options = {"follow": "address"} | {name: name for name in FOLLOW_OPTIONS}
    return {f"follow_{name}": getattr(given, option) for option, name in options.items() if getattr(given, option) is not None}


def _check_file(path: Path, option: str) -> None:
    if not path.is_file():
        raise InvalidArgument("NO_SUCH_FILE", f"--{option} is {str(path)!r}, which is not a file", field=option)


def _overrides(given: argparse.Namespace) -> dict[str, Any]:
    return {key: getattr(given, key) for key in ("host", "port") if getattr(given, key) is not None}


def _say_ready(name: str, host: str, port: int) -> None:
    sys.stdout.write(f"serving {name} on {host}:{port}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
