"""`modelyard doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

app = new_app()


@app.command(name="doctor")
@with_common
def doctor(
    common: Common, port: Annotated[int, typer.Option(min=1, max=65535, help="Port that `modelyard up` would use.")] = 8970
) -> None:
    """Look at this machine: what is wrong for Modelyard, and the cure. Exit code 1 when something must be cured.

    \b
    Example: modelyard doctor
    """
    from modelyard.cli.checkup import FAIL, check_all

    checks = check_all(common.data_dir, common.server, port)
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
