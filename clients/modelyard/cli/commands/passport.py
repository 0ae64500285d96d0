"""`modelyard passport`."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelyard.cli.options import Common, new_app, with_common

if TYPE_CHECKING:
    from modelyard.formats.passport import Passport

app = new_app("Show or verify the signed record of an artifact.\n\n\b\nExample: modelyard passport show GATE_DECISION")

What = Annotated[
    str, typer.Argument(metavar="FILE|GATE_DECISION", help="A passport's file, or the gate decision it was issued by.")
]


@app.command("show")
@with_common
def show(
    common: Common,
    what: What,
    out: Annotated[Path | None, typer.Option(help="Also write the passport's file here.")] = None,
) -> None:
    """Show what a passport says, whoever signed it: what the artifact was made from, by what, how it scored, what the gate found.

    \b
    Example: modelyard passport show GATE_DECISION --out passport.json
    """
    from modelyard.cli.output import print_facts, print_json
    from modelyard.formats.passport import read

    data, _ = _passport(common, what)
    found = read(data)
    if out is not None:
        out.write_bytes(data)
    if common.json:
        print_json({"subject": found.subject, "sha256": found.artifact_sha256, "key_id": found.key_id, **found.content})
        return
    print_facts(_facts(found))
    for test in found.content.get("gate", {}).get("tests", []):
        print(f"{str(test.get('outcome', '')).lower()}: {test.get('message', '')}")


@app.command("verify")
@with_common
def verify(
    common: Common,
    what: What,
    key: Annotated[
        Path | None,
        typer.Option(help="Public key that must have signed it (PEM), or a folder of them. Default: those of --data-dir."),
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="The artifact's file, which the passport must be about.")] = None,
) -> None:
    """Verify that a trusted key signed a passport as it is, that the gate said DEPLOY, and, with --bundle, that it is about those
    bytes. Ends with 1 when it is not.

    \b
    Example: modelyard passport verify passport.json --key evaluator.pem --bundle flowers.zip
    """
    from modelyard.cli.output import print_json
    from modelyard.formats.passport import read
    from modelyard.formats.passport import verify as verified
    from modelyard.formats.passport_keys import TRUSTED_KEYS

    data, expected = _passport(common, what)
    sha256 = _sha256(bundle) if bundle is not None else expected or read(data).artifact_sha256
    found = verified(data, sha256, _keys(key or common.data_dir / TRUSTED_KEYS))
    if common.json:
        print_json({"verified": True, "sha256": sha256, "key_id": found.key_id, "verdict": found.verdict})
        return
    print(f"verified: the key {found.key_id} signed that the artifact {sha256} may be deployed")


def _keys(place: Path) -> Any:
    from modelyard.client import FailedPrecondition, InvalidArgument
    from modelyard.formats.passport_keys import trusted_keys

    if not place.exists():
        message = f"--key is {str(place)!r}, which does not exist; give the evaluator's public key"
        raise InvalidArgument(message, reason="NO_SUCH_FILE", values={"key": str(place)})
    try:
        return trusted_keys(place)
    except ImportError as error:
        message = f"this installation cannot verify signatures ({error.name} is missing): pip install cryptography"
        raise FailedPrecondition(message, reason="NO_CRYPTOGRAPHY", values={"module": error.name or ""}) from None


def _passport(common: Common, what: str) -> tuple[bytes, str]:
    """The passport's bytes, and the sha256 that its gate decision is about ("" for a file)."""
    from modelyard.cli.session import session
    from modelyard.client import FailedPrecondition

    if Path(what).is_file():
        return Path(what).read_bytes(), ""
    with session(common) as here, tempfile.TemporaryDirectory() as folder:
        decision = here.client.gate.get_gate_decision(what)
        if not decision.passport.uri:
            why = " ".join(decision.reasons[:1])
            message = f"{decision.name} has no passport: only what may be deployed gets one. {why}".rstrip()
            raise FailedPrecondition(message, reason="PASSPORT_MISSING", values={"gate_decision": decision.name})
        path = here.client.artifacts.download(decision.passport, Path(folder) / "passport.json")
        return path.read_bytes(), decision.artifact_sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _facts(found: Passport) -> dict[str, Any]:
    content: Mapping[str, Any] = found.content
    artifact, experiment = content.get("artifact", {}), content.get("experiment", {})
    scores = content.get("evaluation", {}).get("scores", {}).get("test", {})
    return {
        "sha256": found.artifact_sha256,
        "artifact": f"{artifact.get('format', '')} {artifact.get('precision', '')}".strip(),
        "export": found.subject,
        "origin": content.get("origin", ""),
        "licence": content.get("licence", ""),
        "trained on": f"{content.get('dataset', {}).get('version', '')} {content.get('dataset', {}).get('digest', '')}".strip(),
        "model version": experiment.get("model_version", experiment.get("unknown", "")),
        "experiment": experiment.get("fingerprint", ""),
        "code": content.get("code", {}).get("version", ""),
        "tested on": f"{scores.get('examples', 0)} examples",
        "scores": [_score(metric) for metric in scores.get("metrics", [])[:6]],
        "gate": f"{found.verdict} ({content.get('gate', {}).get('decision', '')})",
        "issued": content.get("issued", ""),
        "key": found.key_id,
    }


def _score(metric: Mapping[str, Any]) -> str:
    return f"{metric['name']} {metric['value']:.4g} ({metric['lower']:.4g} to {metric['upper']:.4g})"
