"""Who is at the other end of a connection: its address, and the names in its certificate."""

from __future__ import annotations

from typing import Any

from modelyard.core.rpc.tls import names_in


def peer_of(transport: Any) -> str:
    """The caller's address as grpc writes it: ipv4:host:port, ipv6:[host]:port, unix:."""
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return "unix:"
    return f"ipv6:[{name[0]}]:{name[1]}" if ":" in name[0] else f"ipv4:{name[0]}:{name[1]}"


def names_of(transport: Any) -> tuple[str, ...]:
    """The DNS and URI names of the client certificate, which the handshake has verified; none without one."""
    tls = transport.get_extra_info("ssl_object")
    return names_in(tls.getpeercert()) if tls is not None else ()
