"""Devices outside the cluster, the tokens they enrol with, and roll-outs of versions to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Final, TypeVar

from google.protobuf import field_mask_pb2
from google.protobuf.message import Message

from modelyard.client._async.resource import AsyncResource
from modelyard.client._messages import EMPTY
from modelyard.client.names import new_request_id
from modelyard.serving.v1 import device_pb2, device_service_pb2

M = TypeVar("M", bound=Message)
API: Final = "modelyard.serving.v1.DeviceService"


class AsyncDevices(AsyncResource):
    """Names may be short: the id of the device, token or roll-out."""

    service = "serving"

    async def _call(self, method: str, request: Message, answer: type[M], timeout_s: float | None = None) -> M:
        return await self._call_api(API, method, request, answer, timeout_s)

    async def create_enrolment_token(
        self,
        *,
        name_pattern: str = "",
        labels: Mapping[str, str] | None = None,
        expire_time: datetime | None = None,
        replace: bool = False,
    ) -> device_pb2.EnrolmentToken:
        """A one-time token for one device; `token` of the answer is shown this once.

        name_pattern: names it may take (cam-*). expire_time: None: in 24 hours. replace: also for a device that is there already.
        """
        wanted = device_pb2.EnrolmentToken(name_pattern=name_pattern, labels=labels, replace=replace)
        if expire_time is not None:
            wanted.expire_time.FromDatetime(expire_time)
        request = device_service_pb2.CreateEnrolmentTokenRequest(parent=self.names.parent, enrolment_token=wanted)
        return await self._call("CreateEnrolmentToken", request, device_pb2.EnrolmentToken)

    def list_enrolment_tokens(self, *, page_size: int = 0) -> AsyncIterator[device_pb2.EnrolmentToken]:
        """All of the project, newest first."""
        request = device_service_pb2.ListEnrolmentTokensRequest(parent=self.names.parent, page_size=page_size)
        answer = device_service_pb2.ListEnrolmentTokensResponse
        return self._items("ListEnrolmentTokens", request, answer, "enrolment_tokens")

    async def delete_enrolment_token(self, token: str) -> None:
        """Nobody can enrol with it any more."""
        request = device_service_pb2.DeleteEnrolmentTokenRequest(name=self.names.enrolment_token(token))
        await self._call("DeleteEnrolmentToken", request, EMPTY)

    async def get_device(self, device: str) -> device_pb2.Device:
        request = device_service_pb2.GetDeviceRequest(name=self.names.device(device))
        return await self._call("GetDevice", request, device_pb2.Device)

    def list_devices(self, *, labels: Mapping[str, str] | None = None, page_size: int = 0) -> AsyncIterator[device_pb2.Device]:
        """All of the project, newest first; with `labels` those that have them."""
        request = device_service_pb2.ListDevicesRequest(parent=self.names.parent, page_size=page_size, labels=labels)
        return self._items("ListDevices", request, device_service_pb2.ListDevicesResponse, "devices")

    async def update_device(
        self, device: str, *, labels: Mapping[str, str] | None = None, description: str | None = None, etag: str = ""
    ) -> device_pb2.Device:
        """Changes what is given; labels: all there shall be."""
        changed = device_pb2.Device(name=self.names.device(device), labels=labels, description=description or "", etag=etag)
        given = {"labels": labels, "description": description}
        mask = field_mask_pb2.FieldMask(paths=[path for path, value in given.items() if value is not None])
        request = device_service_pb2.UpdateDeviceRequest(device=changed, update_mask=mask)
        return await self._call("UpdateDevice", request, device_pb2.Device)

    async def revoke_device(self, device: str) -> device_pb2.Device:
        """Refuses its credential from now on; what it serves it goes on serving."""
        request = device_service_pb2.RevokeDeviceRequest(name=self.names.device(device))
        return await self._call("RevokeDevice", request, device_pb2.Device)

    async def delete_device(self, device: str) -> None:
        """Forgets it."""
        request = device_service_pb2.DeleteDeviceRequest(name=self.names.device(device))
        await self._call("DeleteDevice", request, EMPTY)

    async def create_rollout(
        self, rollout: device_pb2.Rollout, *, rollout_id: str = "", request_id: str = ""
    ) -> device_pb2.Rollout:
        """Begins one. Names inside the message are full names (`client.names`)."""
        request = device_service_pb2.CreateRolloutRequest(
            parent=self.names.parent, rollout=rollout, rollout_id=rollout_id, request_id=request_id or new_request_id()
        )
        return await self._call("CreateRollout", request, device_pb2.Rollout)

    async def get_rollout(self, rollout: str) -> device_pb2.Rollout:
        request = device_service_pb2.GetRolloutRequest(name=self.names.rollout(rollout))
        return await self._call("GetRollout", request, device_pb2.Rollout)

    def list_rollouts(self, *, page_size: int = 0) -> AsyncIterator[device_pb2.Rollout]:
        """All of the project, newest first."""
        request = device_service_pb2.ListRolloutsRequest(parent=self.names.parent, page_size=page_size)
        return self._items("ListRollouts", request, device_service_pb2.ListRolloutsResponse, "rollouts")

    async def pause_rollout(self, rollout: str) -> device_pb2.Rollout:
        """Begins nothing more; devices that were told go on."""
        request = device_service_pb2.PauseRolloutRequest(name=self.names.rollout(rollout))
        return await self._call("PauseRollout", request, device_pb2.Rollout)

    async def resume_rollout(self, rollout: str) -> device_pb2.Rollout:
        """Goes on with a paused one; failures until now are forgiven."""
        request = device_service_pb2.ResumeRolloutRequest(name=self.names.rollout(rollout))
        return await self._call("ResumeRollout", request, device_pb2.Rollout)

    async def cancel_rollout(self, rollout: str) -> device_pb2.Rollout:
        """Ends it: devices that confirmed keep the version."""
        request = device_service_pb2.CancelRolloutRequest(name=self.names.rollout(rollout))
        return await self._call("CancelRollout", request, device_pb2.Rollout)

    async def revert_rollout(self, rollout: str, *, reason: str = "") -> device_pb2.Rollout:
        """Tells every device of it to go back to what it had before."""
        request = device_service_pb2.RevertRolloutRequest(name=self.names.rollout(rollout), reason=reason)
        return await self._call("RevertRollout", request, device_pb2.Rollout)
