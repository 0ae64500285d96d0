"""`modelyard evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from modelyard.cli.options import Common, Flavor, new_app, with_common

app = new_app()


@app.command(name="evaluate")
@with_common
def evaluate(
    common: Common,
    export: Annotated[str, typer.Argument(metavar="EXPORT", help="The export, see `modelyard export`.")],
    dataset_version: Annotated[
        str, typer.Option(help="Score it on this version. Default: the one the model was trained on.")
    ] = "",
    usage: Annotated[list[str], typer.Option(help="train, validation or test; may be given again. Default: all.")] = [],  # noqa: B006
    slice_column: Annotated[
        list[str],
        typer.Option("--slice", metavar="COLUMN", help="Score the test usage by the values of this column; may be given again."),
    ] = [],  # noqa: B006
    instance_flavor: Flavor = "",
) -> None:
    """Score an export's bytes through the runtime that serves them, with 95% intervals.

    \b
    Example: modelyard evaluate EXPORT --slice site
    """
    from modelyard.cli.findings import print_findings
    from modelyard.cli.live import job_bar
    from modelyard.cli.output import plain, print_facts, print_json, several
    from modelyard.cli.results import intervals, metrics, print_scores
    from modelyard.cli.session import session
    from modelyard.client import last_part, short

    with session(common) as here:
        version = here.client.datasets.get_dataset_version(dataset_version).name if dataset_version else ""
        started = here.client.evaluations.create_evaluation(
            export, dataset_version=version, usages=usage, slice_columns=slice_column, instance_flavor=instance_flavor
        )
        with job_bar("evaluate", "evaluation", lambda: here.client.evaluations.cancel_evaluation(started.name)) as show:
            done = here.client.evaluations.wait_evaluation(started.name, on_change=show)
    if common.json:
        print_json({**plain(done), "metrics": metrics(done.scores), "intervals": intervals(done.scores)})
        return
    print_facts({"evaluation": last_part(done.name), "on": short(done.dataset_version), "sha256": done.artifact_sha256})
    print_scores(done.scores)
    for score in done.scores:
        for one in score.classes:
            support = several(one.support, "example")
            print(f"{one.label}: precision {one.precision.value:.3f}, recall {one.recall.value:.3f}, {support}")
    print_findings(done)
