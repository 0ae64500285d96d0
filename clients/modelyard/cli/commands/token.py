"""`modelyard token`."""

from __future__ import annotations

from typing import Annotated

import typer

from modelyard.cli.options import Common, new_app, with_common

app = new_app("Create, list, revoke: tokens that are good for asking one endpoint.\n\n\b\nExample: modelyard token list flowers")
Endpoint = Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint's name.")]


@app.command("create")
@with_common
def create(
    common: Common,
    endpoint: Endpoint,
    name: Annotated[str, typer.Option(help="Who it is for, for people.")] = "",
    expires: Annotated[str, typer.Option(help="How long it holds: 12h, 90d. Default: for ever.")] = "",
) -> None:
    """Make a token. It is shown once, and kept nowhere.

    \b
    Example: modelyard token create flowers --name shop --expires 90d
    """
    from datetime import UTC, datetime, timedelta

    from modelyard.cli.durations import seconds_of
    from modelyard.cli.output import plain, print_json
    from modelyard.cli.session import session

    until = datetime.now(UTC) + timedelta(seconds=seconds_of(expires, "expires")) if expires else None
    with session(common) as here:
        made = here.client.inference_tokens.create_inference_token(endpoint, display_name=name, expire_time=until)
    if common.json:
        print_json(plain(made))
    else:
        print(made.token)


@app.command("list")
@with_common
def list_(common: Common, endpoint: Endpoint) -> None:
    """List an endpoint's tokens, without what they are.

    \b
    Example: modelyard token list flowers
    """
    from modelyard.cli.output import plain, print_json, print_table
    from modelyard.cli.session import session
    from modelyard.client import last_part

    with session(common) as here:
        found = list(here.client.inference_tokens.list_inference_tokens(endpoint))
    if common.json:
        print_json({"tokens": [plain(one) for one in found]})
        return
    rows = [
        (
            last_part(one.name),
            one.display_name,
            one.creator,
            one.create_time.ToJsonString(),
            one.expire_time.ToJsonString() if one.HasField("expire_time") else "never",
        )
        for one in found
    ]
    print_table(("token", "for", "made by", "made", "expires"), rows)


@app.command("revoke")
@with_common
def revoke(
    common: Common, endpoint: Endpoint, token_id: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, from the list.")]
) -> None:
    """Make a token worthless, within 5 seconds.

    \b
    Example: modelyard token revoke flowers j0abc123
    """
    from modelyard.cli.output import print_json
    from modelyard.cli.session import session

    with session(common) as here:
        name = f"{here.client.names.endpoint(endpoint)}/inferenceTokens/{token_id}"
        here.client.inference_tokens.delete_inference_token(name)
    if common.json:
        print_json({"revoked": name})
    else:
        print(f"revoked {token_id}")
