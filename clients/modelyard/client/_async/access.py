"""Who calls, what was done, what is used; and tokens for those who only ask an endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

from google.protobuf import empty_pb2

from modelyard.access.v1 import access_service_pb2 as access
from modelyard.client._async.resource import AsyncResource
from modelyard.client._async.transport import AsyncTransport
from modelyard.client.names import Names
from modelyard.serving.v1 import inference_token_service_pb2 as tokens

ACCESS: Final = "modelyard.access.v1.AccessService"
TOKENS: Final = "modelyard.serving.v1.InferenceTokenService"


class AsyncAccessOf(AsyncResource):
    """What every service says of itself; `service`: which one is asked."""

    def __init__(self, transport: AsyncTransport, names: Names, service: str = "pipeline") -> None:
        super().__init__(transport, names)
        self.service = service

    def of(self, service: str) -> AsyncAccessOf:
        """The same of another service."""
        return AsyncAccessOf(self._transport, self.names, service)

    async def get_caller(self) -> access.Caller:
        """Who this client is to the service."""
        return await self._call_api(ACCESS, "GetCaller", access.GetCallerRequest(), access.Caller, None)

    async def get_usage(self) -> access.Usage:
        """What the project uses of its quotas there."""
        request = access.GetUsageRequest(name=self.names.parent)
        return await self._call_api(ACCESS, "GetUsage", request, access.Usage, None)

    async def list_audit_events(
        self, *, everything: bool = False, principal: str = "", refused: bool = False, page_size: int = 0, page_token: str = ""
    ) -> access.ListAuditEventsResponse:
        """A page of what was done in the project, or with `everything` on the whole server; the newest first."""
        parent = "projects/-" if everything else self.names.parent
        request = access.ListAuditEventsRequest(
            parent=parent, principal=principal, refused=refused, page_size=page_size, page_token=page_token
        )
        return await self._call_api(ACCESS, "ListAuditEvents", request, access.ListAuditEventsResponse, None)


class AsyncInferenceTokens(AsyncResource):
    """Tokens of endpoints. Endpoints may be named short, tokens in full."""

    service = "serving"

    async def create_inference_token(
        self, endpoint: str, *, display_name: str = "", expire_time: datetime | None = None
    ) -> tokens.InferenceToken:
        """Makes one; its `token` is in this answer alone. `expire_time` must have a time zone; None: it holds for ever."""
        wanted = tokens.InferenceToken(display_name=display_name)
        if expire_time is not None:
            wanted.expire_time.FromDatetime(expire_time)
        request = tokens.CreateInferenceTokenRequest(parent=self.names.endpoint(endpoint), inference_token=wanted)
        return await self._call_api(TOKENS, "CreateInferenceToken", request, tokens.InferenceToken, None)

    async def list_inference_tokens(self, endpoint: str) -> AsyncIterator[tokens.InferenceToken]:
        """All of an endpoint, newest first, without what they are."""
        request = tokens.ListInferenceTokensRequest(parent=self.names.endpoint(endpoint))
        while True:
            page = await self._call_api(TOKENS, "ListInferenceTokens", request, tokens.ListInferenceTokensResponse, None)
            for token in page.inference_tokens:
                yield token
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def delete_inference_token(self, name: str) -> None:
        """Revokes one, by its full name."""
        request = tokens.DeleteInferenceTokenRequest(name=name)
        await self._call_api(TOKENS, "DeleteInferenceToken", request, empty_pb2.Empty, None)
