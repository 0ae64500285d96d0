"""The static tokens of MODELYARD_TOKENS_FILE.

    tokens:
      - name: anna
        sha256: 5e88...            # of the token: printf %s TOKEN | sha256sum
        expires: 2027-01-31T00:00:00Z    # optional
        roles: {flowers: editor, "*": viewer}

The file holds no token, so that whoever reads it cannot call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from modelyard.core.access.documents import table
from modelyard.core.access.principal import EVERY_PROJECT, Role, role_named
from modelyard.core.errors import InvalidArgument

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_PROJECT = re.compile(r"[a-z][a-z0-9-]{0,62}")
_KNOWN = {"name", "sha256", "expires", "roles"}


@dataclass(frozen=True)
class StaticToken:
    """One line of the file. `expires` None: never."""

    name: str
    roles: Mapping[str, Role]
    expires: datetime | None


def static_tokens(document: Any, where: str) -> dict[bytes, StaticToken]:
    """The tokens by their sha256. Raises InvalidArgument BAD_FILE, BAD_ROLE."""
    entries = table(document, where).get("tokens")
    if not isinstance(entries, list):
        raise _wrong(f"{where}: tokens", "must be a list")
    found: dict[bytes, StaticToken] = {}
    for number, entry in enumerate(entries):
        place = f"{where}: tokens[{number}]"
        sha256, token = _token(table(entry, place), place)
        if sha256 in found:
            raise _wrong(f"{place}.sha256", "stands in the file twice")
        found[sha256] = token
    return found


def roles_from(document: Any, where: str) -> dict[str, Role]:
    """{project or "*": role}. Raises InvalidArgument BAD_FILE, BAD_ROLE."""
    roles = {}
    for project, role in table(document, where).items():
        if project != EVERY_PROJECT and not _PROJECT.fullmatch(project):
            raise _wrong(f"{where}.{project[:60]}", "must be a project's id, or '*'")
        roles[project] = role_named(role, f"{where}.{project}")
    return roles


def _token(entry: dict[str, Any], place: str) -> tuple[bytes, StaticToken]:
    unknown = set(entry) - _KNOWN
    if unknown:
        raise _wrong(place, f"has {', '.join(sorted(unknown))}; known are {', '.join(sorted(_KNOWN))}")
    name, sha256 = str(entry.get("name", "")), str(entry.get("sha256", "")).lower()
    if not _NAME.fullmatch(name):
        raise _wrong(f"{place}.name", "must be 1 to 63 of letters, digits and '._@-'")
    if not _SHA256.fullmatch(sha256):
        raise _wrong(f"{place}.sha256", "must be the token's sha256, 64 hexadecimal digits (never the token itself)")
    return bytes.fromhex(sha256), StaticToken(name, roles_from(entry.get("roles", {}), f"{place}.roles"), _time(entry, place))


def _time(entry: dict[str, Any], place: str) -> datetime | None:
    value = entry.get("expires")
    if value is None:
        return None
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        raise _wrong(f"{place}.expires", "must be a time such as 2027-01-31T00:00:00Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _wrong(where: str, what: str) -> InvalidArgument:
    return InvalidArgument("BAD_FILE", f"{where} {what}", field="tokens_file")
