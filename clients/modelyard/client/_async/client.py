"""The client: one object, a group of calls for each kind of resource."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType

from modelyard.client._async.access import AsyncAccessOf, AsyncInferenceTokens
from modelyard.client._async.advisor import AsyncAdvisor
from modelyard.client._async.annotations import AsyncAnnotations
from modelyard.client._async.artifacts import AsyncArtifacts
from modelyard.client._async.datasets import AsyncDatasets
from modelyard.client._async.devices import AsyncDevices
from modelyard.client._async.endpoints import AsyncEndpoints
from modelyard.client._async.evaluations import AsyncEvaluations, AsyncGate
from modelyard.client._async.examples import AsyncExamples
from modelyard.client._async.exports import AsyncExports, AsyncProfiles, AsyncTargets
from modelyard.client._async.jobs import AsyncJobs
from modelyard.client._async.pipelines import AsyncPipelines
from modelyard.client._async.predictions import AsyncPredictions
from modelyard.client._async.reevaluations import AsyncReevaluations
from modelyard.client._async.selections import AsyncModelSelections
from modelyard.client._async.training import AsyncModels, AsyncTraining
from modelyard.client._async.transport import AsyncTransport
from modelyard.client.access import Access, access_from_environment
from modelyard.client.names import Names
from modelyard.client.notebook import install
from modelyard.client.settings import DEFAULT_ADDRESS, Addresses, CallSettings

install()


class AsyncClient:
    """Talks to Modelyard's services.

    address: `host:port` (or `https://host:port`) of a server that holds them all, or Addresses.
    project: completes short names.
    timeout_s: deadline of a call that is no stream.
    patience_s: how long a call that is UNAVAILABLE is tried again.
    watch_patience_s: how long a Watch stream that broke is reconnected without an answer.
    access: token, certificate authority, client certificate. None: those of the environment (MODELYARD_TOKEN, MODELYARD_CA,
        MODELYARD_CERTIFICATE, MODELYARD_KEY), and the user's own token for a server of theirs on this machine.

    Methods raise the named errors of `modelyard.client`. Close it, or use it in a `with` block.
    """

    def __init__(
        self,
        address: str | Addresses = DEFAULT_ADDRESS,
        *,
        project: str = "default",
        timeout_s: float = 30.0,
        patience_s: float = 30.0,
        watch_patience_s: float = 120.0,
        access: Access | None = None,
    ) -> None:
        addresses = Addresses.same(address) if isinstance(address, str) else address
        self.names = Names(project)
        self._transport = transport = AsyncTransport(
            addresses, CallSettings(timeout_s, patience_s, watch_patience_s), access or access_from_environment()
        )
        self.datasets = AsyncDatasets(transport, self.names)
        self.examples = AsyncExamples(transport, self.names)
        self.annotations = AsyncAnnotations(transport, self.names)
        self.training = AsyncTraining(transport, self.names)
        self.models = AsyncModels(transport, self.names)
        self.advisor = AsyncAdvisor(transport, self.names)
        self.selections = AsyncModelSelections(transport, self.names)
        self.evaluations = AsyncEvaluations(transport, self.names)
        self.gate = AsyncGate(transport, self.names)
        self.exports = AsyncExports(transport, self.names)
        self.profiles = AsyncProfiles(transport, self.names)
        self.targets = AsyncTargets(transport, self.names)
        self.endpoints = AsyncEndpoints(transport, self.names)
        self.devices = AsyncDevices(transport, self.names)
        self.pipelines = AsyncPipelines(transport, self.names)
        self.reevaluations = AsyncReevaluations(transport, self.names)
        self.access = AsyncAccessOf(transport, self.names)
        self.inference_tokens = AsyncInferenceTokens(transport, self.names)
        self.jobs = AsyncJobs(transport, self.names)
        self.artifacts = AsyncArtifacts(transport, self.names)
        self.predictions = AsyncPredictions(transport, self.names)

    def hurry(self, timeout_s: float) -> None:
        """From now on no call that begins, and no stream that breaks, is waited for any longer: for a program that ends."""
        self._transport.settings = replace(
            self._transport.settings, timeout_s=timeout_s, patience_s=timeout_s, watch_patience_s=timeout_s
        )

    async def close(self) -> None:
        """Closes the connections; calls under way are cancelled."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()
