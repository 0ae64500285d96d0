"""What pods that Modelyard starts may do on their node: compute, and nothing else."""

from __future__ import annotations

from typing import Any


def of_pod(user: int) -> dict[str, Any]:
    """The securityContext of a pod. `user`: whom it runs as; 0: whom its image names, who must not be root."""
    who = {"runAsUser": user, "runAsGroup": user, "fsGroup": user} if user else {}
    return {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, **who}


def of_container() -> dict[str, Any]:
    """The securityContext of its container."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
    }
