"""Exit codes, and what a user sees of an error: one line that says what is wrong and what would be right, and a hint."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from typing import Any, Final

from modelyard.client.errors import ModelyardClientError

DONE, FAILED, WRONG, REFUSED, UNAVAILABLE, INTERRUPTED = 0, 1, 2, 3, 4, 130

# The option that sets a field of the contracts.
OPTIONS: Final = {
    "train_ratio": "--train-ratio",
    "max_inference_duration_ms": "--max-latency-ms",
    "max_latency_ms": "--max-latency-ms",
    "max_training_time": "--max-train-time",
    "label_column": "--label",
    "usage_column": "--usage-column",
    "excluded_columns": "--exclude",
    "dataset_id": "--name",
    "dataset_version_id": "--version-name",
    "incremental_model_version": "--incremental",
    "warm_start_model_version": "--warm-start",
    "recipe_id": "--recipe",
    "target": "--target",
    "task": "--task",
    "format": "--format",
    "precision": "--precision",
    "quantization": "--qat",
    "channels": "--prune-channels",
    "weights": "--prune-weights",
    "max_size_bytes": "--max-size",
    "max_loss": "--max-loss",
    "class_floors": "--class-floor",
    "classes": "--classes",
    "dataset_version": "--dataset-version",
    "ram_bytes": "--ram",
    "flash_bytes": "--flash",
    "agent": "--agent",
    "accelerator": "--accelerator",
    "floors": "--floor",
    "seed": "--seed",
    "base_lr": "--base-lr",
    "max_epochs": "--max-epochs",
    "max_steps": "--max-steps",
    "batch_size": "--batch-size",
    "weight_decay": "--weight-decay",
    "resume_from": "--resume",
    "percent": "--percent",
    "sticky_header": "--sticky-header",
    "window": "--window",
    "max_error_rate": "--max-error-rate",
    "max_latency_ratio": "--max-latency-ratio",
    "min_requests": "--min-requests",
    "deployment_id": "--as",
    "reason": "--reason",
    "at": "--at",
    "checkpoint": "--from",
    "test_where": "--test-where",
    "validation_where": "--validation-where",
    "group_by": "--group-by",
    "time_by": "--time-by",
    "name_pattern": "--name-pattern",
    "time_column": "--time-column",
    "usages": "--usage",
}
HINTS: Final = {
    "NO_TOKEN": "say who you are with --token, or MODELYARD_TOKEN; for your own server with its --data-dir",
    "TOKEN_INVALID": "the server does not know this token (--token, MODELYARD_TOKEN); ask who runs it for another",
    "TOKEN_EXPIRED": "get a new token, and give it with --token or MODELYARD_TOKEN",
    "NOT_ALLOWED": "ask an admin of the project for the role that the message names",
    "TOKEN_IN_CLEAR": "name the authority of the server's certificate with --ca",
    "NO_CONNECTION": "start a server with `modelyard up`, or leave out --server and one is started for the command",
    "SERVER_ENDED": "another command's server ends with it: run this again, or keep one running with `modelyard up`",
    "PORT_TAKEN": "give another --port, or use the server that has it with --server",
    "NO_SERVICES": "install it with `pip install 'modelyard[all]'`, or name a running server with --server HOST:PORT",
    "WAIT_TIMEOUT": "see `modelyard runs list`",
    "UNKNOWN_INPUT": "rows are asked about with --csv or --row, series with --series, pictures and sounds as files",
    "VERSION_DEPLOYED": "deploy it beside the other one with --as, or take that off with `modelyard endpoint delete`",
    "NOTHING_TO_ROLL_BACK": "`modelyard endpoint history ENDPOINT` lists what changed; `modelyard endpoint traffic` sets shares",
    "VERSION_NOT_READY": "`modelyard endpoint show ENDPOINT` says how each version fares",
    "NO_DATASET_VERSION": "`modelyard dataset publish DATASET` makes one",
    "NO_LABEL_SCHEMA": "`modelyard annotate schema DATASET --class NAME --class NAME` makes one",
    "NO_MODEL_VERSION": "`modelyard train DATASET` makes one",
    "UNKNOWN_RECIPE": "`modelyard train --recipes` lists them",
    "TARGET_COLUMN_MISSING": "name the column to predict with --label",
    "NO_RECIPE_FAST_ENOUGH": "allow more with --max-latency-ms, or name a recipe with --recipe",
    "NO_RECIPE_SMALL_ENOUGH": "allow more with --max-size, or take a target with more room",
    "UNKNOWN_TARGET": "`modelyard target list` lists them",
    "UNUSABLE_DATA_DIR": "give a folder you may write to with --data-dir, or in MODELYARD_DATA_DIR",
    "DISK_FULL": "free some space, or give a folder on another disk with --data-dir",
}

# Of what is not there: the command that lists what is. By the collection of its name, of which {} is the resource before.
LISTS: Final = {
    "datasets": "`modelyard dataset list` lists the datasets",
    "versions": "`modelyard {} show {}` lists its versions",
    "annotationRounds": "`modelyard annotate list {}` lists the rounds",
    "models": "`modelyard model list` lists the models",
    "trainingJobs": "`modelyard runs list` lists the runs",
    "pipelineRuns": "`modelyard runs list` lists the runs",
    "exports": "`modelyard model lineage MODEL_VERSION` names the exports of a model version",
    "evaluations": "`modelyard model lineage MODEL_VERSION` names the evaluations of a model version",
    "gateDecisions": "`modelyard runs show RUN --json` names the gate decision of a run",
    "endpoints": "`modelyard endpoint list` lists the endpoints",
    "deployments": "`modelyard endpoint show {}` lists the versions that it serves",
    "devices": "`modelyard device list` lists the devices",
    "rollouts": "`modelyard rollout list` lists the roll-outs",
    "reevaluations": "`modelyard watch list` lists what is watched",
    "targets": "`modelyard target list` lists the targets",
}


class Refused(ModelyardClientError):
    """The gate said no."""

    code = "FAILED_PRECONDITION"


def exit_code(error: BaseException) -> int:
    """The status a command ends with after an error."""
    code = _code(error)
    if isinstance(error, Refused):
        return REFUSED
    return {"INVALID_ARGUMENT": WRONG, "UNAVAILABLE": UNAVAILABLE}.get(code, FAILED)


def report(error: Exception, debug: bool, as_json: bool) -> int:
    """Tells of an error on stderr (with --json also as one object on stdout). Gives the exit status."""
    known = _known(error)
    sys.stderr.write(f"{lines(known)}\n")
    if debug:
        sys.stderr.write(_details(error, known))
    if as_json:
        print(json.dumps({"state": "FAILED", "error": error_document(known)}))
    return exit_code(error)


def lines(error: Any) -> str:
    """What a user reads of an error: a line that says what is wrong, and a hint where there is one."""
    hint = _hint(error)
    return f"error: {_line(error)}" + (f"\nhint: {hint}" if hint else "")


def error_document(error: Any) -> dict[str, Any]:
    """An error as JSON: code, reason, message, values, violations, request_id."""
    return {
        "code": _code(error),
        "reason": error.reason,
        "message": error.message,
        "values": dict(error.values),
        "violations": [{"field": found.field, "description": found.description} for found in error.violations],
        "request_id": getattr(error, "request_id", ""),
    }


def _code(error: Any) -> str:
    """The status code's name. Errors of a server in this process are the domain's own: their class says it."""
    code = getattr(error, "code", "")
    if isinstance(code, str) and code:
        return code
    name = type(error).__name__
    return "".join("_" + letter if letter.isupper() and at else letter for at, letter in enumerate(name)).upper()


def _known(error: Exception) -> Any:
    """The error itself when it carries reason and message; else one that says what little is known."""
    if hasattr(error, "reason") and hasattr(error, "message") and hasattr(error, "violations"):
        return error
    if isinstance(error, OSError):
        named = f": {error.filename}" if error.filename else ""
        return ModelyardClientError(f"{error.strerror or error}{named}", reason="SYSTEM_ERROR", code="UNKNOWN")
    return ModelyardClientError(f"unexpected {type(error).__name__}: {error}", reason="UNEXPECTED", code="INTERNAL")


def _line(error: Any) -> str:
    """The message, with the field in front when the message does not name it."""
    message = " ".join(str(error.message).split())
    request_id = getattr(error, "request_id", "")
    if request_id and _code(error) == "INTERNAL":
        return f"{message} Request id: {request_id}"
    for violation in error.violations:
        name = violation.field.rpartition(".")[2]
        if name not in ("", "name", "parent", "model_name") and name not in message:
            return f"{name}: {message}"
    return message


def _hint(error: Any) -> str:
    if error.reason == "WRONG_USAGE":
        return str(error.values.get("usage", ""))
    if error.reason in HINTS:
        return HINTS[error.reason]
    if _code(error) == "NOT_FOUND" and (listed := _listed(error.values)):
        return listed
    if error.reason == "UNEXPECTED" or _code(error) == "INTERNAL":
        return "this is a fault of ours; the server's log (logs/ in the data folder) and --debug say more; please report it"
    named = [option for violation in error.violations if (option := _option(violation.field))]
    return f"set it with {named[-1]}" if named else ""


def _listed(values: Mapping[str, str]) -> str:
    """Which command lists what is there instead."""
    if "model" in values:  # what was asked for a prediction
        return LISTS["deployments"].format(values["model"]) if "version" in values else LISTS["endpoints"]
    parts = values.get("name", "").split("/")
    if len(parts) < 4 or parts[-2] not in LISTS:
        return ""
    parent = parts[-3]
    if parts[-2] == "versions":
        return LISTS["versions"].format("dataset" if parts[-4] == "datasets" else "model", parent)
    return LISTS[parts[-2]].format(parent)


def _option(field: str) -> str:
    """The option that sets a field, or the list that it is an element's part of; "" for another part of something:
    `dataset_version.split.test_where` is no version that --dataset-version would name."""
    *before, last = field.split(".")
    if (name := last.partition("[")[0]) in OPTIONS:
        return OPTIONS[name]
    parent, element, _ = before[-1].partition("[") if before else ("", "", "")
    return OPTIONS.get(parent, "") if element or parent == "resume_from" else ""


def _details(error: Exception, known: Any) -> str:
    values = "".join(f"  {key} = {value}\n" for key, value in known.values.items())
    request = f"  request id {known.request_id}\n" if getattr(known, "request_id", "") else ""
    trace = "".join(traceback.format_exception(error))
    return f"{_code(known)} {known.reason}\n{values}{request}{trace}"
