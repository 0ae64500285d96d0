"""DeviceService: convert, call, convert."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf import empty_pb2

from modelyard.core.rpc.requests import fingerprint, mask_paths
from modelyard.serving.domain.device import Device
from modelyard.serving.handlers.devices import Devices
from modelyard.serving.handlers.rollouts import Rollouts
from modelyard.serving.ports import Request
from modelyard.serving.rpc.device_convert import device_message, moment, rollout_message, token_message, wanted_rollout
from modelyard.serving.v1 import device_pb2
from modelyard.serving.v1 import device_service_pb2 as pb
from modelyard.serving.v1.device_service_pb2_grpc import DeviceServiceServicer

UPDATABLE: Final = {"labels", "description"}


@dataclass(frozen=True)
class DeviceServicer(DeviceServiceServicer):
    """Devices, tokens, roll-outs; each call runs in a thread of the rpc shell. `offline_after`: without a report."""

    devices: Devices
    rollouts: Rollouts
    offline_after: timedelta

    def CreateEnrolmentToken(self, request: pb.CreateEnrolmentTokenRequest, context: Any) -> device_pb2.EnrolmentToken:
        """See the contract."""
        wanted = request.enrolment_token
        labels, expires = dict(wanted.labels), moment(wanted)
        token, text = self.devices.create_token(request.parent, wanted.name_pattern, labels, expires, wanted.replace)
        return token_message(token, text)

    def ListEnrolmentTokens(self, request: pb.ListEnrolmentTokensRequest, context: Any) -> pb.ListEnrolmentTokensResponse:
        """See the contract."""
        page = self.devices.list_tokens(request.parent, request.page_size, request.page_token)
        tokens = [token_message(token) for token in page.items]
        return pb.ListEnrolmentTokensResponse(enrolment_tokens=tokens, next_page_token=page.next_page_token)

    def DeleteEnrolmentToken(self, request: pb.DeleteEnrolmentTokenRequest, context: Any) -> empty_pb2.Empty:
        """See the contract."""
        self.devices.delete_token(request.name)
        return empty_pb2.Empty()

    def GetDevice(self, request: pb.GetDeviceRequest, context: Any) -> device_pb2.Device:
        """See the contract."""
        return self._message(self.devices.get(request.name))

    def ListDevices(self, request: pb.ListDevicesRequest, context: Any) -> pb.ListDevicesResponse:
        """See the contract."""
        page = self.devices.list(request.parent, request.page_size, request.page_token, dict(request.labels))
        devices = [self._message(device) for device in page.items]
        return pb.ListDevicesResponse(devices=devices, next_page_token=page.next_page_token)

    def UpdateDevice(self, request: pb.UpdateDeviceRequest, context: Any) -> device_pb2.Device:
        """See the contract."""
        paths, wanted = mask_paths(request.update_mask, UPDATABLE), request.device
        labels = dict(wanted.labels) if "labels" in paths else None
        description = wanted.description if "description" in paths else None
        return self._message(self.devices.update(wanted.name, labels, description, wanted.etag))

    def RevokeDevice(self, request: pb.RevokeDeviceRequest, context: Any) -> device_pb2.Device:
        """See the contract."""
        return self._message(self.devices.revoke(request.name))

    def DeleteDevice(self, request: pb.DeleteDeviceRequest, context: Any) -> empty_pb2.Empty:
        """See the contract."""
        self.devices.delete(request.name)
        return empty_pb2.Empty()

    def CreateRollout(self, request: pb.CreateRolloutRequest, context: Any) -> device_pb2.Rollout:
        """See the contract."""
        asked = Request(request.request_id, fingerprint(request))
        return rollout_message(self.rollouts.create(request.parent, wanted_rollout(request), asked))

    def GetRollout(self, request: pb.GetRolloutRequest, context: Any) -> device_pb2.Rollout:
        """See the contract."""
        return rollout_message(self.rollouts.get(request.name))

    def ListRollouts(self, request: pb.ListRolloutsRequest, context: Any) -> pb.ListRolloutsResponse:
        """See the contract."""
        page = self.rollouts.list(request.parent, request.page_size, request.page_token)
        found = [rollout_message(rollout) for rollout in page.items]
        return pb.ListRolloutsResponse(rollouts=found, next_page_token=page.next_page_token)

    def PauseRollout(self, request: pb.PauseRolloutRequest, context: Any) -> device_pb2.Rollout:
        """See the contract."""
        return rollout_message(self.rollouts.pause(request.name))

    def ResumeRollout(self, request: pb.ResumeRolloutRequest, context: Any) -> device_pb2.Rollout:
        """See the contract."""
        return rollout_message(self.rollouts.resume(request.name))

    def CancelRollout(self, request: pb.CancelRolloutRequest, context: Any) -> device_pb2.Rollout:
        """See the contract."""
        return rollout_message(self.rollouts.cancel(request.name))

    def RevertRollout(self, request: pb.RevertRolloutRequest, context: Any) -> device_pb2.Rollout:
        """See the contract."""
        return rollout_message(self.rollouts.revert(request.name, request.reason))

    def _message(self, device: Device) -> device_pb2.Device:
        return device_message(device, datetime.now(UTC), self.offline_after)
