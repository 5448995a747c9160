"""Kubeconfigs for the lab: one for people, one for each component."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final

from .files import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from .auth import Tokens
    from .objects import Json
    from .pki import Pair

CLUSTER: Final = "lab"
"""Name of the cluster in each kubeconfig."""

_EXEC_API: Final = "client.authentication.k8s.io/v1"


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def token_user(token: str) -> Json:
    """Return a user entry with a token."""
    return {"token": token}


def certificate_user(pair: Pair) -> Json:
    """Return a user entry with a client certificate, written into it."""
    return {
        "client-certificate-data": _inline(pair.certificate),
        "client-key-data": _inline(pair.key),
    }


def exec_user(tokens: Tokens, name: str) -> Json:
    """Return a user entry with an exec plugin that prints the user's token of today."""
    credential = {
        "apiVersion": _EXEC_API,
        "kind": "ExecCredential",
        "status": {"token": tokens[name]},
    }
    return {
        "exec": {
            "apiVersion": _EXEC_API,
            "command": "echo",
            "args": [json.dumps(credential)],
            "interactiveMode": "Never",
        }
    }


def write(
    path: Path, *, server: str, ca_pem: str, users: dict[str, Json], current: str, namespace: str
) -> None:
    """Write a kubeconfig with one context per user, readable by its owner only.

    Args:
        path: Where it goes; replaced at once, so that a reader never sees half of it.
        server: URL of the API server.
        ca_pem: Certificate of the authority that the client shall trust.
        users: User entries by name.
        current: Name of the current context.
        namespace: Namespace of each context.
    """
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": CLUSTER,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(ca_pem.encode()).decode(),
                },
            }
        ],
        "users": [{"name": name, "user": user} for name, user in users.items()],
        "contexts": [
            {"name": name, "context": {"cluster": CLUSTER, "user": name, "namespace": namespace}}
            for name in users
        ],
        "current-context": current,
    }
    write_private(path, json.dumps(config, indent=1))  # JSON is YAML
