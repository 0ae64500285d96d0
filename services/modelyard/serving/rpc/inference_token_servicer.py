"""InferenceTokenService: convert, call, convert."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf import empty_pb2

from modelyard.core.access.guard import CALLER
from modelyard.core.errors import InvalidArgument
from modelyard.core.jobs.convert import timestamp
from modelyard.serving.handlers import inference_tokens
from modelyard.serving.v1 import inference_token_service_pb2 as pb
from modelyard.serving.v1.inference_token_service_pb2_grpc import InferenceTokenServiceServicer


@dataclass(frozen=True)
class InferenceTokenServicer(InferenceTokenServiceServicer):
    """Each call runs in a thread of the rpc shell."""

    tokens: inference_tokens.Tokens

    def CreateInferenceToken(self, request: pb.CreateInferenceTokenRequest, context: Any) -> pb.InferenceToken:
        """See the contract."""
        wanted, creator = request.inference_token, CALLER.get().name
        expires = _expires(wanted) if wanted.HasField("expire_time") else None
        made, secret = inference_tokens.create_token(self.tokens, request.parent, wanted.display_name, expires, creator)
        answer = _message(made)
        answer.token = secret
        return answer

    def ListInferenceTokens(self, request: pb.ListInferenceTokensRequest, context: Any) -> pb.ListInferenceTokensResponse:
        """See the contract."""
        found, following = inference_tokens.list_tokens(self.tokens, request.parent, request.page_size, request.page_token)
        return pb.ListInferenceTokensResponse(inference_tokens=map(_message, found), next_page_token=following)

    def DeleteInferenceToken(self, request: pb.DeleteInferenceTokenRequest, context: Any) -> empty_pb2.Empty:
        """See the contract."""
        inference_tokens.revoke_token(self.tokens, request.name)
        return empty_pb2.Empty()


def _expires(token: pb.InferenceToken) -> datetime:
    try:
        return token.expire_time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        message = "inference_token.expire_time is no time; it must be after now, within ten years"
        raise InvalidArgument("BAD_EXPIRE_TIME", message, field="inference_token.expire_time") from None


def _message(token: inference_tokens.InferenceToken) -> pb.InferenceToken:
    return pb.InferenceToken(
        name=token.name,
        display_name=token.display_name,
        expire_time=timestamp(token.expires),
        create_time=timestamp(token.created),
        creator=token.creator,
    )
