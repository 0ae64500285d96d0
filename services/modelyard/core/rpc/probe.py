"""`python -m modelyard.core.rpc.probe`: asks this machine's service for its health, for where probes are commands (Docker).

On MODELYARD_HEALTH_PORT. Exit status 0: it serves.
"""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from modelyard.core.settings import CoreSettings

TIMEOUT_S = 5.0


def main() -> int:
    """0 when it serves, 1 when not, 2 where no port was set."""
    port = CoreSettings().health_port
    if not port:
        sys.stderr.write("MODELYARD_HEALTH_PORT is not set; it is the port that is asked\n")
        return 2
    # Health says nothing that is secret, and this port has no TLS.
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            sys.stderr.write(f"no answer at port {port}: {error.code().name}\n")
            return 1
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main())
