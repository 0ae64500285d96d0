"""Small pictures of examples, as a page's grid asks for them: those that are asked for at the same moment are one call."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from modelyard.client import AsyncClient, NotFound
from modelyard.dataset.v1 import example_view_pb2

WAIT_S: Final = 0.003
"""How long the first of several waits for the others: browsers ask for six at once."""
MOST: Final = 60

_Key = tuple[int, str, int]


class Previews:
    """Calls that wait to be made, by client, content and size."""

    def __init__(self) -> None:
        self._waiting: dict[_Key, dict[str, asyncio.Future[example_view_pb2.ExampleView]]] = {}
        self._calls: set[asyncio.Task[None]] = set()

    async def get(self, client: AsyncClient, content: str, example_id: str, size: int) -> example_view_pb2.ExampleView:
        """One of them. Raises NotFound, and what the service says of the call that it was part of."""
        key = (id(client), content, size)
        asked = self._waiting.get(key)
        if asked is None or (len(asked) >= MOST and example_id not in asked):
            asked = self._waiting[key] = {}
            task = asyncio.create_task(self._call(client, key, asked))
            self._calls.add(task)
            task.add_done_callback(self._calls.discard)
        future = asked.get(example_id)
        if future is None:
            future = asked[example_id] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(future)

    async def _call(self, client: AsyncClient, key: _Key, asked: dict[str, asyncio.Future[Any]]) -> None:
        await asyncio.sleep(WAIT_S)
        if self._waiting.get(key) is asked:
            del self._waiting[key]
        _, content, size = key
        try:
            found = await client.examples.view(content, list(asked), content="preview", max_size=size)
        except Exception as error:
            for future in asked.values():
                future.set_exception(error)
                future.exception()  # who asked may have gone
            return
        views = {one.example.example_id: one for one in found.examples}
        for example_id, future in asked.items():
            if example_id in views:
                future.set_result(views[example_id])
            else:
                future.set_exception(NotFound(f"{content} has no example {example_id}"))
                future.exception()
