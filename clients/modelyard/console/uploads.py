"""Files that people drop onto a page: written to a folder of this process, one a request, then handed to the dataset service."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

import anyio
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

MOST_BYTES: Final = 64 << 30
"""Of what all pages of this process hold together, unless `limit` says another number."""
MOST_FILES: Final = 2_000_000
_LONGEST_NAME: Final = 1000


@dataclass
class Basket:
    """What one page has been given so far."""

    folder: Path
    files: int = 0
    bytes: int = 0
    names: set[str] = field(default_factory=set)

    @property
    def source(self) -> Path:
        """What to import: the one file, or the folder."""
        found = list(self.folder.iterdir())
        return found[0] if len(found) == 1 else self.folder

    def empty(self) -> None:
        """Forgets what is in it; it can be filled anew."""
        self.drop()
        self.folder.mkdir(mode=0o700)
        self.files = self.bytes = 0

    def drop(self) -> None:
        """Forgets all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


_baskets: dict[str, Basket] = {}
_most: dict[str, int] = {"bytes": MOST_BYTES}


def limit(most_bytes: int) -> None:
    """How much all pages of this process may hold at a time."""
    _most["bytes"] = most_bytes


def new_basket() -> tuple[str, Basket]:
    """An empty one and its key; who makes it drops it."""
    folder = Path(tempfile.mkdtemp(prefix="modelyard-upload-"))
    key = secrets.token_urlsafe(16)
    _baskets[key] = basket = Basket(folder)
    return key, basket


def drop_basket(key: str) -> None:
    """Forgets a basket, if it is still there."""
    basket = _baskets.pop(key, None)
    if basket is not None:
        basket.drop()


def add_uploads(app: FastAPI) -> None:
    """The route: the body is the file, its path in the dropped folder is in the address."""

    @app.post("/upload/{key}")
    async def upload(request: Request, key: str, path: str) -> Response:
        basket = _baskets.get(key)
        if basket is None:
            return PlainTextResponse("this page is no longer there; load it again", 404)
        place = safe_path(path)
        if place is None:
            return PlainTextResponse(f"{path[:200]!r} is no path inside a folder", 400)
        if basket.files >= MOST_FILES:
            return PlainTextResponse(f"more than {MOST_FILES:,} files; give a zip", 413)
        target = basket.folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        async with await anyio.open_file(target, "wb") as file:
            async for chunk in request.stream():
                basket.bytes += len(chunk)
                if sum(each.bytes for each in _baskets.values()) > _most["bytes"]:
                    target.unlink()
                    return PlainTextResponse(_too_much(), 413)
                await file.write(chunk)
        basket.files += 1
        return Response(status_code=204)


def _too_much() -> str:
    most = f"{_most['bytes'] >> 30} GiB"
    return f"more than {most} are on their way at once; use `modelyard dataset import`, which sends nothing twice"


def safe_path(path: str) -> PurePosixPath | None:
    """A path inside a folder as it was said; None for those that lead elsewhere: absolute, with "..", control characters."""
    if not path or len(path) > _LONGEST_NAME or any(ord(letter) < 32 for letter in path) or "\\" in path:
        return None
    place = PurePosixPath(path)
    if place.is_absolute() or ".." in place.parts or place.parts in ((), (".",)):
        return None
    return place
