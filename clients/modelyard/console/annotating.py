"""What the annotator's and the reviewer's table asks for while somebody works at it: tasks, answers, reviews, as JSON.

Each is one call of the typed client, as whoever looks at the page. Bodies are JSON, which no form of another site can send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from fastapi import FastAPI
from google.protobuf import json_format
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelyard.client import InvalidArgument, ModelyardClientError
from modelyard.console.connection import connection
from modelyard.console.content import KEPT, project_of, status_of
from modelyard.console.parts.trouble import message_of
from modelyard.dataset.v1 import annotation_pb2

MOST_BODY: Final = 64 << 20
MOST_REVIEWED: Final = 10
Said = Mapping[str, Any]


def add_annotating(app: FastAPI) -> None:
    """The routes."""

    @app.get("/annotate/content")
    async def content(task: str) -> Response:
        try:
            found = await _calls(task).task_content(task)
        except ModelyardClientError as error:
            return _refused(error)
        kind = found.media_type if found.media_type.startswith(("image/", "audio/")) else "application/json"
        if kind == "image/svg+xml":
            return JSONResponse({"error": "pictures with scripts in them are not shown"}, 415)
        return Response(found.data, media_type=kind, headers={"cache-control": KEPT})

    @app.post("/annotate/{verb}")
    async def act(request: Request, verb: str) -> Response:
        wanted = _VERBS.get(verb)
        if wanted is None:
            return JSONResponse({"error": f"there is no {verb[:40]!r} here"}, 404)
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return JSONResponse({"error": "the body must be application/json"}, 415)
        if int(request.headers.get("content-length") or 0) > MOST_BODY:
            return JSONResponse({"error": f"an answer has at most {MOST_BODY >> 20} MiB"}, 413)
        try:
            said = await request.json()
            if not isinstance(said, dict):
                raise InvalidArgument("the body must be an object")
            return JSONResponse(await wanted(said))
        except ModelyardClientError as error:
            return _refused(error)
        except (ValueError, TypeError, json_format.ParseError) as error:
            return JSONResponse({"error": f"this is no answer: {str(error)[:300]}", "reason": "BAD_BODY"}, 400)


def _text(said: Said, name: str) -> str:
    value = said.get(name) or ""
    if not isinstance(value, str):
        raise InvalidArgument(f"{name} must be a text")
    return value


def _calls(name: str) -> Any:
    """The annotation calls of the project that a full name is of."""
    return connection().client(project_of(name)).annotations


def _json(message: Any) -> dict[str, Any]:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def answer_from(said: Any) -> annotation_pb2.Answer:
    """An answer as the page writes it. Raises ParseError."""
    return json_format.ParseDict(said or {}, annotation_pb2.Answer())


async def _claim(said: Said) -> Said:
    name = _text(said, "round")
    found = await _calls(name).claim(name, count=int(said.get("count") or 1))
    return {"tasks": [_json(task) for task in found.tasks], "nothing_left": found.nothing_left}


async def _submit(said: Said) -> Said:
    name = _text(said, "task")
    made = await _calls(name).submit(name, answer_from(said.get("answer")), seconds=float(said.get("seconds") or 0))
    return {"number": made.number}


async def _skip(said: Said) -> Said:
    name = _text(said, "task")
    await _calls(name).skip(name, reason=_text(said, "reason"))
    return {}


async def _release(said: Said) -> Said:
    name = _text(said, "task")
    await _calls(name).release(name)
    return {}


async def _reviewable(said: Said) -> Said:
    """Tasks whose answers are all there, with what people said; or exactly those that are named."""
    name, named = _text(said, "round"), [str(each) for each in said.get("tasks") or ()]
    calls = _calls(name)
    skip = int(_text(said, "after") or 0)
    if named:
        wanted = named[skip : skip + MOST_REVIEWED]
        tasks = list(await asyncio.gather(*(calls.get_task(each) for each in wanted)))
        more = skip + len(wanted) < len(named)
    else:
        # What was reviewed is in the list no more, what was left for later still is: the page says how many of these.
        tasks, more = [], False
        at = 0
        async for task in calls.list_tasks(name, state="labelled", page_size=min(skip + MOST_REVIEWED + 1, 1000)):
            if at >= skip + MOST_REVIEWED:
                more = True
                break
            if at >= skip:
                tasks.append(task)
            at += 1
    answers = await asyncio.gather(*(_said_of(calls, task) for task in tasks))
    return {"tasks": answers, "next": str(skip + len(tasks)) if more else ""}


async def _said_of(calls: Any, task: annotation_pb2.AnnotationTask) -> dict[str, Any]:
    answers, skips = [], []
    unchanged = annotation_pb2.AnnotationEntry.PRE_LABEL_USE_UNCHANGED
    async for entry in calls.list_entries(task.name, page_size=200):
        if entry.kind == annotation_pb2.AnnotationEntry.KIND_ANSWER and entry.counts:
            answer = {"annotator": entry.annotator, "answer": _json(entry.answer), "seconds": entry.seconds}
            answers.append({**answer, "unchanged": entry.pre_label_use == unchanged})
        elif entry.kind == annotation_pb2.AnnotationEntry.KIND_SKIP:
            skips.append({"annotator": entry.annotator, "reason": entry.reason})
    return {"task": _json(task), "answers": answers, "skips": skips}


async def _review(said: Said) -> Said:
    name = _text(said, "task")
    answer = answer_from(said["answer"]) if said.get("answer") is not None else None
    verdict, who, why = (_text(said, each) for each in ("verdict", "annotator", "reason"))
    await _calls(name).review(name, verdict, answer=answer, annotator=who, reason=why)
    return {}


_VERBS: Final[Mapping[str, Callable[[Said], Awaitable[Said]]]] = {
    "claim": _claim,
    "submit": _submit,
    "skip": _skip,
    "release": _release,
    "reviewable": _reviewable,
    "review": _review,
}


def _refused(error: ModelyardClientError) -> Response:
    message, reason = message_of(error)
    return JSONResponse({"error": message, "reason": reason}, status_of(error))
