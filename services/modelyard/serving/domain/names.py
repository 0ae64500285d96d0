"""The names under which callers of the Open Inference Protocol find an endpoint and its versions."""

from __future__ import annotations

import re

from modelyard.core.errors import InvalidArgument

DEFAULT_PROJECT = "default"
"""Endpoints of this project answer under their own id; those of any other under {project}.{endpoint}."""

_VERSION = re.compile(r"^V0*([0-9]+)(?=-|$)")
_NUMBER = re.compile(r"[0-9]{1,9}")
_MODEL = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}")


def model_name(project: str, endpoint: str) -> str:
    """The model name of an endpoint. Unique, because neither part may hold a dot."""
    return endpoint if project == DEFAULT_PROJECT else f"{project}.{endpoint}"


def endpoint_model(endpoint: str) -> str:
    """The model name under which an endpoint answers, given its resource name: projects/{project}/endpoints/{endpoint}."""
    _, project, _, endpoint_id = endpoint.split("/")
    return model_name(project, endpoint_id)


def canonical_version(version: str) -> str:
    """A version as endpoints name it: "1" and "001" are other ways to write "V001"; anything else stays as it is."""
    return f"V{int(version):03d}" if _NUMBER.fullmatch(version) else version


def numbered_version(version: str) -> str:
    """A version as a number, which callers may use for it too: V001 is 1, V001-int8 is 1-int8; any other stays as it is."""
    return _VERSION.sub(r"\1", version)


def check_model_name(name: str) -> str:
    """A name for a model that is served without an endpoint. Raises InvalidArgument BAD_MODEL_NAME."""
    if _MODEL.fullmatch(name):
        return name
    message = f"name is {name[:200]!r}; it must be 1 to 128 letters, digits, '.', '_' and '-', and not '.' or '..'"
    raise InvalidArgument("BAD_MODEL_NAME", message, field="name", name=name[:200])
