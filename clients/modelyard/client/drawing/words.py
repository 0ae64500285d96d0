"""Numbers, sizes, times and names as people read them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

from modelyard.client.enums import short_name
from modelyard.type.v1 import job_pb2, learning_pb2


def number(value: float) -> str:
    """Four significant digits: 0.9123, 12.3, 1,234."""
    if value != value:
        return "—"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def count(value: int) -> str:
    """1,234."""
    return f"{value:,}"


def percent(value: float, digits: int = 1) -> str:
    """91.2 %."""
    return f"{100 * value:.{digits}f} %"


def size(bytes_: float) -> str:
    """1.5 MB."""
    value = float(bytes_)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def spoken(seconds: float) -> str:
    """42 s, 3 min 20 s, 2 h 5 min, 3 days."""
    whole = round(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 and whole % 60 else f"{whole // 60} min"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} days"


def milliseconds(value: float) -> str:
    """0.42 ms, 12.3 ms."""
    return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.3g} s"


def seconds_of(duration: Any) -> float:
    """A Duration in seconds."""
    return float(duration.seconds + duration.nanos / 1e9)


def ago(stamp: Any) -> str:
    """5 min ago; empty for a time that is not set."""
    if not stamp.seconds:
        return ""
    seconds = time.time() - stamp.ToSeconds()
    return "just now" if seconds < 10 else f"{spoken(seconds if seconds < 60 else 60 * (seconds // 60))} ago"


def moment(stamp: Any) -> str:
    """2026-11-30 18:03 UTC; empty for a time that is not set."""
    return datetime.fromtimestamp(stamp.seconds, UTC).strftime("%Y-%m-%d %H:%M UTC") if stamp.seconds else ""


def state_word(state: int) -> str:
    """Queued, Running, Completed, Failed, Cancelled."""
    word = short_name(job_pb2.JobState, state)
    return {"succeeded": "Completed", "": "Unknown"}.get(word, word.capitalize())


def task_word(task: int) -> str:
    """image classification."""
    return short_name(learning_pb2.Task, task).replace("_", " ")


def usage_word(usage: int) -> str:
    """train, validation, test; not split."""
    return short_name(learning_pb2.Usage, usage) or "not split"


def reason_word(reason: str) -> str:
    """EXACT_DUPLICATES as people read it: Exact duplicates."""
    return reason.replace("_", " ").capitalize()


def plain(sentence: str) -> str:
    """A sentence of a service without its codes: NOT_A_PICTURE is "not a picture"."""
    return re.sub(r"\b[A-Z]+(?:_[A-Z]+)+\b", lambda found: found[0].replace("_", " ").lower(), sentence)


def step_words(sentence: str) -> str:
    """What came of a step of a run: figures by their names, sizes in their units, the first three of many figures."""
    first, colon, rest = sentence.partition(": ")
    if first == "test" and rest.count(", ") > 2:
        sentence = f"{first}{colon}{', '.join(rest.split(', ')[:3])}"
    said = re.sub(r"\b(\d+) bytes\b", lambda found: size(int(found[1])), plain(sentence))
    said = re.sub(r"\bval_([a-z0-9_]+) (?=-?\d)", r"validation \1 ", said)
    return re.sub(r"\b([a-z0-9]+(?:_[a-z0-9]+)+) (?=-?\d)", lambda found: f"{metric_word(found[1])} ", said)


def metric_word(name: str) -> str:
    """f1_macro: F1 (macro)."""
    special = {
        "f1": "F1",
        "f1_macro": "F1 (macro)",
        "roc_auc": "ROC AUC",
        "mae": "MAE",
        "rmse": "RMSE",
        "r2": "R²",
        "pr_auc": "PR AUC",
        "mape": "MAPE",
        "map_50": "mAP at 0.5",
        "map_50_95": "mAP at 0.5 to 0.95",
        "picture_ap50": "AP at 0.5, by picture",
        "iou": "IoU",
        "mean_iou": "Mean IoU",
    }
    if name in special:
        return special[name]
    if name.startswith("val_"):
        return f"{metric_word(name.removeprefix('val_'))}, validation"
    if name.startswith("map_"):
        return f"mAP, {name.removeprefix('map_')} objects"
    if match := re.fullmatch(r"residual_p(\d+)", name):
        return f"Residual, {int(match[1])}th percentile"
    for ending in ("_macro", "_micro", "_weighted"):
        if name.endswith(ending):
            return f"{metric_word(name.removesuffix(ending))} ({ending[1:]})"
    return name.replace("_", " ").capitalize()
