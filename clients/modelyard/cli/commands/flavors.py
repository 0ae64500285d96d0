"""`modelyard flavors`."""

from __future__ import annotations

from typing import Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

app = new_app()


@app.command(name="flavors")
@with_common
def flavors(
    common: Common,
    service: Annotated[str, typer.Option(help="Whose jobs: dataset, trainer, exporter or evaluator.")] = "trainer",
) -> None:
    """List the sizes of machine that jobs may run on: --instance-flavor of train, auto, export and evaluate.

    \b
    Example: modelyard flavors
    """
    from modelyard.cli.asking import wrong
    from modelyard.cli.output import plain, print_json, print_table
    from modelyard.cli.session import session

    known = ("dataset", "trainer", "exporter", "evaluator")
    if service not in known:
        raise wrong("service", service, f"service is {service!r}; give one of {', '.join(known)}")
    with session(common) as here:
        found = here.client.jobs.list_instance_flavors(service)
    if common.json:
        print_json({"instance_flavors": [plain(flavor) for flavor in found]})
        return
    rows = [
        (
            one.name,
            f"{one.cpu_cores:g}",
            f"{one.memory_bytes / 2**30:.3g} GiB",
            f"{one.gpu_count} {one.gpu_resource}" if one.gpu_count else "",
            str(one.node_count) if one.node_count > 1 else "",
            ", ".join(one.default_for) or ("all others" if at == 0 else ""),
            one.description,
        )
        for at, one in enumerate(found)
    ]
    print_table(("flavor", "cores", "memory", "devices", "nodes", "default for", "what it is"), rows)
