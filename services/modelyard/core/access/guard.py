"""Lets a call through or not: who makes it (authentication), whether its role will do (rules), and what it refers to.

One Guard serves everything that a process listens with: servicers through the rpc shell, natives and HTTP of the front end.
Another project's things are refused before anything is looked up, so that an answer never says whether they exist.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from modelyard.core.access.authentication import Authenticator
from modelyard.core.access.principal import ANYBODY, EVERY_PROJECT, Kind, Principal
from modelyard.core.access.rules import RULES, Rule, Where, endpoint_of_model
from modelyard.core.errors import PermissionDenied, Unauthenticated

CALLER: Final[contextvars.ContextVar[Principal]] = contextvars.ContextVar("caller", default=ANYBODY)
"""Who makes the call that is being answered."""

_PROJECT: Final = re.compile(r"projects/([a-z][a-z0-9-]{0,62})(?:/.*)?", re.DOTALL)
_REFERENCE: Final = re.compile(r"projects/([^/]{1,63})")
_ARTIFACT: Final = re.compile(r"artifact://[a-z]{1,32}/[0-9a-f]{64}")


class Ownership(Protocol):
    """Which project an artifact belongs to."""

    def is_own(self, uri: str) -> bool:
        """Whether this process keeps the artifacts of that namespace."""

    def belongs_to(self, uri: str, projects: list[str]) -> bool:
        """Whether one of the projects uploaded it, or a document of theirs names it. May block."""


JobToken = Callable[[str, str], bool]
"""Whether a job (by name) has a token with that sha256 (hexadecimal). May block."""


class Guard:
    """Asked about every call. `open_predictions`: the data plane needs no token (on loopback)."""

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        ownership: Ownership | None = None,
        job_token: JobToken | None = None,
        open_predictions: bool = False,
        rules: Mapping[str, Rule] = RULES,
    ) -> None:
        self.authenticator = authenticator
        self.open_predictions = open_predictions
        self._ownership, self._job_token, self._rules = ownership, job_token, rules

    def rule(self, method: str) -> Rule | None:
        """The rule of a method; None: it is refused to everybody."""
        return self._rules.get(method)

    def is_open(self, rule: Rule | None) -> bool:
        """Whether nobody is asked here: probes, what asks by itself, and predictions where they are open."""
        return rule is not None and (rule.where in (Where.OPEN, Where.OWN) or (self.open_predictions and rule.predicts))

    async def principal(self, authorization: str, names: tuple[str, ...], peer: str) -> Principal:
        """Who calls. Raises Unauthenticated, ResourceExhausted, Unavailable."""
        found = self.authenticator.quick(authorization, names)
        if found is not None:
            return found
        return await asyncio.to_thread(self.authenticator.slow, authorization, peer)

    async def check_job(self, request: Any, peer: str) -> Principal:
        """The job that a worker speaks for. Raises Unauthenticated."""
        identity = request.identity
        given = hashlib.sha256(identity.token.encode()).hexdigest()
        known = self._job_token is not None and await asyncio.to_thread(self._job_token, identity.job, given)
        if not identity.token or not known:
            self.authenticator.attempts.failed(peer)
            reason = "TOKEN_INVALID" if identity.token else "NO_TOKEN"
            raise Unauthenticated(reason, "the token is not that of the job's present attempt")
        return Principal(Kind.JOB, f"job:{identity.job}", scope=identity.job)

    async def permit(self, principal: Principal, method: str, rule: Rule | None, message: Any) -> str:
        """Whether the principal may call the method with this request. Gives the resource that it is about.

        Raises PermissionDenied NOT_ALLOWED, OTHER_PROJECT.
        """
        if rule is None:
            raise PermissionDenied("NOT_ALLOWED", f"{method} has no rule that says who may call it", method=method)
        if principal.scope and not rule.predicts:
            message_text = f"{principal.name} may not call {method.rpartition('/')[2]}: its token is for {principal.scope} alone"
            raise PermissionDenied("NOT_ALLOWED", message_text, method=method, scope=principal.scope)
        if rule.where is Where.NOWHERE:
            return ""
        if rule.where is Where.SERVER:
            return self._in_project(principal, method, rule, EVERY_PROJECT, "")
        value = str(field_of(message, rule.field))
        if rule.where is Where.MODEL:
            return self.permit_model(principal, method, rule, value)
        if rule.where is Where.ARTIFACT:
            return await self._artifact(principal, method, rule, value)
        found = _PROJECT.fullmatch(value)
        resource = self._in_project(principal, method, rule, found[1] if found else EVERY_PROJECT, value)
        if found:
            await self._references(message, found[1])
        return resource

    def permit_model(self, principal: Principal, method: str, rule: Rule, model: str) -> str:
        """The same for a model name of the Open Inference Protocol; looks only at memory."""
        if not model:
            return self._in_project(principal, method, rule, EVERY_PROJECT, "")
        project, endpoint = endpoint_of_model(model)
        if principal.kind is Kind.INFERENCE and rule.predicts and principal.scope == endpoint:
            return endpoint
        return self._in_project(principal, method, rule, project, endpoint)

    def _in_project(self, principal: Principal, method: str, rule: Rule, project: str, resource: str) -> str:
        if rule.where is Where.NOWHERE or principal.role_in(project) >= rule.role:
            return resource
        needed = rule.role.name.lower()
        place = "every project (*)" if project == EVERY_PROJECT else f"projects/{project}"
        message = f"{principal.name} may not call {method.rpartition('/')[2]}: it needs the role {needed} in {place}"
        raise PermissionDenied("NOT_ALLOWED", message, method=method, role=needed, project=project)

    async def _artifact(self, principal: Principal, method: str, rule: Rule, uri: str) -> str:
        if principal.role_in(EVERY_PROJECT) >= rule.role:
            return uri
        projects = [project for project in principal.projects() if principal.role_in(project) >= rule.role]
        if projects and _ARTIFACT.fullmatch(uri) and await self._belongs(uri, projects):
            return uri
        message = f"{principal.name} has no role in a project that {uri[:200]} belongs to"
        raise PermissionDenied("NOT_ALLOWED", message, method=method, uri=uri[:200])

    async def _references(self, message: Any, project: str) -> None:
        """Nothing in a request may be of another project than the request: services, which may all, would fetch it."""
        for field, text in texts_of(message):
            found = _REFERENCE.match(text)
            if found and found[1] != project:
                shown = text[:200]
                said = f"{field} is {shown!r}, of another project than the request (projects/{project})"
                raise PermissionDenied("OTHER_PROJECT", said, field=field, value=shown, project=project)
            if _ARTIFACT.fullmatch(text) and self._is_own(text) and not await self._belongs(text, [project]):
                said = f"{field} is {text}, which belongs not to projects/{project}; upload it there"
                raise PermissionDenied("OTHER_PROJECT", said, field=field, value=text, project=project)

    def _is_own(self, uri: str) -> bool:
        return self._ownership is not None and self._ownership.is_own(uri)

    async def _belongs(self, uri: str, projects: list[str]) -> bool:
        return self._ownership is not None and await asyncio.to_thread(self._ownership.belongs_to, uri, projects)


def field_of(message: Any, path: str) -> Any:
    """A field of a message by its path; empty where a message on the way is of another part of a oneof."""
    for name in path.split("."):
        message = getattr(message, name)
    return message


def resource_in(request: Any, rule: Rule | None) -> str:
    """What a request is about, for the audit log; empty where that cannot be said."""
    if rule is None or rule.where is not Where.RESOURCE:
        return ""
    try:
        return str(field_of(request, rule.field))
    except AttributeError:  # a stream
        return ""


def texts_of(message: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Every text in a message, with the path of its field."""
    if depth > 16:
        raise PermissionDenied("NOT_ALLOWED", "the request is nested too deeply")
    for field, value in message.ListFields():
        name = f"{path}.{field.name}" if path else field.name
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key, item in value.items():
                yield from _texts_in(item, f"{name}[{key}]", depth)
            continue
        for item in value if _is_repeated(field, value) else (value,):
            yield from _texts_in(item, name, depth)


def _texts_in(item: Any, name: str, depth: int) -> Iterator[tuple[str, str]]:
    if isinstance(item, str):
        yield name, item
    elif hasattr(item, "ListFields"):
        yield from texts_of(item, name, depth + 1)


def _is_repeated(field: Any, value: Any) -> bool:
    return not isinstance(value, str | bytes) and not hasattr(value, "ListFields") and hasattr(value, "__iter__")
