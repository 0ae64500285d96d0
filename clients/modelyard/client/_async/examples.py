"""Examples of a dataset version, or of an import, a page at a time and as people look at them."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.client._async.resource import AsyncResource
from modelyard.client.enums import enum_number
from modelyard.dataset.v1 import dataset_service_pb2
from modelyard.type.v1 import learning_pb2


class AsyncExamples(AsyncResource):
    """`parent` is a version (`flowers/V002`, `flowers`), or the full name of an import that succeeded."""

    service = "dataset"

    async def page(
        self,
        parent: str,
        *,
        usage: learning_pb2.Usage.ValueType | str = "",
        label: str = "",
        example_ids: Sequence[str] = (),
        skip: int = 0,
        page_size: int = 50,
        page_token: str = "",
    ) -> dataset_service_pb2.ListExamplesResponse:
        """A page of the examples that are chosen, in the order of their ids; `total_size` counts all of them.

        usage: "train", "validation" or "test". label: of this class, or with an object of it. example_ids: at most 1000.
        skip: examples to leave out first.
        """
        request = dataset_service_pb2.ListExamplesRequest(
            parent=self._parent(parent),
            usage=enum_number(learning_pb2.Usage, usage, "usage"),
            label=label,
            example_ids=example_ids,
            skip=skip,
            page_size=page_size,
            page_token=page_token,
        )
        return await self._call("ListExamples", request, dataset_service_pb2.ListExamplesResponse)

    async def view(
        self,
        parent: str,
        example_ids: Sequence[str],
        *,
        content: dataset_service_pb2.ViewExamplesRequest.Content.ValueType | str = "none",
        max_size: int = 0,
        max_points: int = 0,
    ) -> dataset_service_pb2.ViewExamplesResponse:
        """Examples to look at, at most 200; those that are not there are left out.

        content: "none", "preview" (pictures of at most `max_size` pixels) or "original" (of one example). max_points: of a trace.
        """
        request = dataset_service_pb2.ViewExamplesRequest(
            parent=self._parent(parent),
            example_ids=example_ids,
            content=enum_number(dataset_service_pb2.ViewExamplesRequest.Content, content, "content"),
            max_size=max_size,
            max_points=max_points,
        )
        return await self._call("ViewExamples", request, dataset_service_pb2.ViewExamplesResponse)

    def _parent(self, parent: str) -> str:
        return self.names.dataset_import(parent) if "/imports/" in parent else self.names.dataset_version(parent)
