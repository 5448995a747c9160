"""The certificate of a virt-handler, as KubeVirt keeps it: in a Secret of its own namespace."""

from __future__ import annotations

import base64
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.lab.objects import KUBEVIRT_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubectl_vmredir.k8s.client import KubeClient

_NAMESPACE: Final = f"/api/v1/namespaces/{KUBEVIRT_NAMESPACE}"
_CERTIFICATE: Final = f"{_NAMESPACE}/secrets/kubevirt-virt-handler-server-certs"
_AUTHORITY: Final = f"{_NAMESPACE}/configmaps/kubevirt-ca"


async def handler_context(client: KubeClient) -> ssl.SSLContext:
    """Return what a virt-handler listens with: only virt-api may connect.

    Raises:
        ClusterError: If the cluster does not hand the certificate out.
    """
    secret = await client.get(_CERTIFICATE)
    authority = await client.get(_AUTHORITY)
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cadata=authority["data"]["ca-bundle"]
    )
    context.verify_mode = ssl.CERT_REQUIRED
    _load_pair(context, secret["data"])
    return context


def _load_pair(context: ssl.SSLContext, data: Mapping[str, str]) -> None:
    # OpenSSL's binding reads a chain from files only.
    with tempfile.TemporaryDirectory(prefix="vmredir-") as folder:
        paths = {name: Path(folder, name) for name in ("tls.crt", "tls.key")}
        for name, path in paths.items():
            path.touch(0o600)
            path.write_bytes(base64.b64decode(data[name]))
        context.load_cert_chain(paths["tls.crt"], paths["tls.key"])
