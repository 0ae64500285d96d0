"""Targets: the named ones, and a project's own."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

from modelyard.core import names
from modelyard.core.documents import from_document, to_document
from modelyard.core.errors import FailedPrecondition, InvalidArgument, NotFound
from modelyard.core.requests import Request
from modelyard.core.resources import Resource, check_page_size
from modelyard.exporter.domain.targets import CPU, Target, check_target, predefined
from modelyard.exporter.ports import Hardware, Resources

COLLECTION = names.TARGET.collection


class KnownTargets:
    """ports.Targets over the resource store."""

    def __init__(self, resources: Resources, hardware: Hardware) -> None:
        self._resources = resources
        self._hardware = hardware

    @cached_property
    def named(self) -> tuple[Target, ...]:
        """Those that come with the product."""
        return predefined(self._hardware.gpu_is_here())

    def find(self, parent: str, target: str, field: str) -> Target:
        """See ports.Targets. A full name (projects/p/targets/t) is understood too."""
        wanted = self._id(parent, target or CPU, field)
        for each in self.named:
            if each.id == wanted:
                return each
        try:
            return target_of(self._resources.get(f"{parent}/targets/{wanted}"))
        except NotFound:
            known = ", ".join(each.id for each in self.named)
            message = f"{field} is {wanted!r:.80}; it must be {known}, or a target of the project (`modelyard target list`)"
            raise InvalidArgument("UNKNOWN_TARGET", message, field=field, value=wanted[:80], known=known) from None

    def _id(self, parent: str, target: str, field: str) -> str:
        if "/" not in target:
            return target
        ids = names.TARGET.parse(target, field)
        if names.PROJECT.format(ids["project"]) != parent:
            message = f"{field} is {target!r:.200}, which is not in {parent}"
            raise InvalidArgument("UNKNOWN_TARGET", message, field=field, value=target[:200])
        return ids["target"]


def create_target(known: KnownTargets, resources: Resources, parent: str, target: Target, request: Request) -> Resource:
    """Adds a target of the project's own. Raises InvalidArgument, AlreadyExists."""
    project = names.PROJECT.parse(parent, "parent")["project"]
    names.check_id(target.id, "target_id")
    check_target(target, known.named)
    return resources.create(
        names.TARGET.format(project, target.id),
        COLLECTION,
        parent,
        to_document(replace(target, local=False, predefined=False)),
        request_id=request.id,
        method=request.method,
        fingerprint=request.fingerprint,
    )


def get_target(known: KnownTargets, resources: Resources, name: str) -> Target:
    """Reads a target. Raises NotFound TARGET_NOT_FOUND."""
    wanted = names.TARGET.parse(name)["target"]
    found = next((each for each in known.named if each.id == wanted), None)
    return found or target_of(_stored(resources, name))


def list_targets(
    known: KnownTargets, resources: Resources, parent: str, page_size: int, page_token: str
) -> tuple[list[Target], str]:
    """A page: the named ones first (on the first page, beside as many of the project's own as asked for), then by creation."""
    names.PROJECT.parse(parent, "parent")
    page = resources.list(COLLECTION, parent, check_page_size(page_size), page_token, newest_first=False)
    first = [] if page_token else list(known.named)
    return [*first, *(target_of(resource) for resource in page.items)], page.next_page_token


def delete_target(known: KnownTargets, resources: Resources, name: str) -> None:
    """Deletes a target of the project's own. Raises NotFound, FailedPrecondition PREDEFINED_TARGET."""
    wanted = names.TARGET.parse(name)["target"]
    if any(each.id == wanted for each in known.named):
        message = f"{wanted} comes with the product and cannot be deleted"
        raise FailedPrecondition("PREDEFINED_TARGET", message, field="name", target=wanted)
    resources.delete(_stored(resources, name).name)


def target_of(resource: Resource) -> Target:
    """The target in a stored resource."""
    return from_document(resource.document, Target)


def _stored(resources: Resources, name: str) -> Resource:
    try:
        return resources.get(name)
    except NotFound as error:
        raise NotFound("TARGET_NOT_FOUND", f"{name} does not exist", name=name) from error
