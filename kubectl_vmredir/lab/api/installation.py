"""What a fresh cluster with KubeVirt has: namespaces, KubeVirt itself, and its certificates."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from .rbac import MASTERS, User
from .registry import Registry
from .resources import CONFIG_MAPS, KUBEVIRTS, NAMESPACES, SECRETS, Target
from .roles import DEMO, KUBEVIRT

if TYPE_CHECKING:
    from .objects import Json
    from .pki import Pki
    from .store import Store

KUBEVIRT_VERSION: Final = "v1.9.0"
"""The release that the lab behaves as."""

HANDLER_CERTIFICATE: Final = "kubevirt-virt-handler-server-certs"
"""Secret (kubernetes.io/tls) with the server certificate of each virt-handler, as KubeVirt's."""

KUBEVIRT_CA: Final = "kubevirt-ca"
"""ConfigMap with the authority of KubeVirt's components, key ``ca-bundle``."""

_INSTALLER: Final = User("lab", groups=(MASTERS,))


def populate(store: Store, pki: Pki) -> None:
    """Create what a fresh cluster with KubeVirt has."""
    registry = Registry(store)
    for name in ("default", "kube-system", KUBEVIRT, DEMO):
        registry.create(Target(NAMESPACES), {"metadata": {"name": name}}, _INSTALLER)
    authority = {"metadata": {"name": KUBEVIRT_CA}, "data": {"ca-bundle": pki.kubevirt.pem}}
    registry.create(Target(CONFIG_MAPS, KUBEVIRT), authority, _INSTALLER)
    pair = {"tls.crt": pki.handler.certificate, "tls.key": pki.handler.key}
    secret = {
        "metadata": {"name": HANDLER_CERTIFICATE},
        "type": "kubernetes.io/tls",
        "data": {key: base64.b64encode(path.read_bytes()).decode() for key, path in pair.items()},
    }
    registry.create(Target(SECRETS, KUBEVIRT), secret, _INSTALLER)
    kubevirt: Json = {
        "apiVersion": KUBEVIRTS.api_version,
        "kind": KUBEVIRTS.kind,
        "metadata": {"name": "kubevirt"},
        "spec": {},
    }
    created = registry.create(Target(KUBEVIRTS, KUBEVIRT), kubevirt, _INSTALLER)
    status = {"phase": "Deployed", "observedKubeVirtVersion": KUBEVIRT_VERSION}
    target = Target(KUBEVIRTS, KUBEVIRT, "kubevirt", "status")
    registry.update(target, {**created, "status": status}, _INSTALLER)
    # The watch cache of a real one begins when it has been installed.
    store.compact()
