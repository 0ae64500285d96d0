"""Which desired states a follower believes: signed by a trusted key, for its own subject, not older than what it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from modelyard.formats.passport_keys import PublicKey, public_key_of
from modelyard.serving.domain.desired_state import DesiredState, admit
from modelyard.serving.state_messages import keys_within, verified
from modelyard.serving.v1 import fleet_pb2


@dataclass
class StateTrust:
    """`keys`: the centre's, as PEM; with `first_contact` the keys of the first state where there are none yet.

    `pinned`: no state changes the keys. `number` and `digest` are those of the state that was accepted last.
    """

    subject: str
    keys: tuple[bytes, ...] = ()
    number: int = 0
    digest: str = ""
    first_contact: bool = False
    pinned: bool = False

    def accept(self, envelope: fleet_pb2.SignedState) -> DesiredState:
        """The state, believed from now on. Raises FailedPrecondition, InvalidArgument; then what was believed before stays."""
        keys = self.keys or (keys_within(envelope) if self.first_contact else ())
        state, digest = verified(envelope, _public(keys))
        admit(state, digest, self.subject, self.number, self.digest)
        after = tuple(state.state_keys) if state.state_keys and not self.pinned else keys
        _public(after)  # keys that cannot be read are no keys: the state is refused as a whole
        self.keys, self.number, self.digest = after, state.number, digest
        return state


def _public(keys: Sequence[bytes]) -> tuple[PublicKey, ...]:
    return tuple(public_key_of(pem) for pem in keys)
