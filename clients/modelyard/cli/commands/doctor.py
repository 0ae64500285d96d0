"""`modelyard doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

app = new_app()


@app.command(name="doctor")
@with_common
def doctor(
    common: Common,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port that `modelyard up` would use.")] = 8970,
    source: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Data to be imported: whether all of it can be read.")
    ] = None,
) -> None:
    """Look at this machine and its server: what is wrong for Modelyard, and the cure. Exit code 1 when something must be cured.

    Of a server: certificate, token, version, clock. Of what MODELYARD_DATABASE_URL, MODELYARD_ARTIFACTS_URL and MODELYARD_DEVICE
    name: whether it is there.

    \b
    Example: modelyard doctor

    \b
    Example: modelyard doctor --server https://models.example.org --ca ca.pem --source flowers/
    """
    from modelyard.cli.checks import FAIL
    from modelyard.cli.checkup import check_all

    checks = check_all(common, port, source.expanduser() if source is not None else None)
    failed = any(check.status == FAIL for check in checks)
    if common.json:
        import dataclasses
        import json

        print(json.dumps({"healthy": not failed, "checks": [dataclasses.asdict(check) for check in checks]}))
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{check.status:4}  {check.name.ljust(width)}  {check.found}")
            if check.cure:
                print(f"      {' ' * width}  {check.cure}")
    if failed:
        raise typer.Exit(1)
