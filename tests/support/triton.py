"""tritonclient, importable beside our own contracts.

Its generated code and ours describe the same package `inference` and would refuse to share the default descriptor pool, so it
is imported with a pool of its own. Import it from here and nowhere else.
"""

from __future__ import annotations

from google.protobuf import descriptor_pool

_pool = descriptor_pool.DescriptorPool()
_default = descriptor_pool.Default
descriptor_pool.Default = lambda: _pool
try:
    import tritonclient.grpc as triton
    from tritonclient.grpc import service_pb2 as triton_messages
    from tritonclient.utils import InferenceServerException
finally:
    descriptor_pool.Default = _default

__all__ = ["InferenceServerException", "triton", "triton_messages"]
