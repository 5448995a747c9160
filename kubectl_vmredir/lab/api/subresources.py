"""The group subresources.kubevirt.io: virt-api's part of the API.

Source: KubeVirt, pkg/virt-api/api.go and pkg/virt-api/rest/lifecycle.go.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from . import negotiation, streams, websocket
from .bodies import decode_object, read_body
from .faults import DialFault, Faults
from .objects import Json, dig, to_wire
from .rbac import describe
from .resources import KUBEVIRTS, VMIMS, VMIS, VMS, Target
from .roles import KUBEVIRT
from .status import (
    Refusal,
    Subject,
    conflict,
    forbidden,
    internal_error,
    not_found,
    unauthorized,
)

if TYPE_CHECKING:
    from .registry import Registry
    from .rest import Call
    from .store import Store
    from .streams import Streams

_VM: Final = Subject("kubevirt.io", "virtualmachine")
_MIGRATION_NAME: Final = "kubevirt-migrate-vm-"
_ADDRESS: Final = "127.0.0.1:8443"
"""Of a virt-api, for texts."""


class Subresources:
    """Answers as virt-api, behind kube-apiserver.

    Args:
        store: The objects.
        registry: Creates migrations.
        carrier: Carries the streams.
        faults: What goes wrong.
    """

    def __init__(self, store: Store, registry: Registry, carrier: Streams, faults: Faults) -> None:
        self._store = store
        self._registry = registry
        self._carrier = carrier
        self._faults = faults

    async def handle(self, call: Call) -> web.StreamResponse:
        """Carry a request out.

        Raises:
            Refusal: If kube-apiserver itself refuses.
        """
        info = call.info
        if self._faults.virt_api_down:
            return _unreachable(call)
        match info.resource, info.subresource, call.request.method:
            case "virtualmachineinstances", kind, "GET" if kind in streams.KINDS:
                return await self._stream(call)
            case "virtualmachines", "migrate", "PUT":
                return await self._migrate(call)
            case "version", "", "GET":
                return self._version()
            case _:
                return _answer("404: Page Not Found", code=404)

    async def _stream(self, call: Call) -> web.StreamResponse:
        if self._faults.dials:
            return _refused_dial(call, self._faults.dials.popleft())
        try:
            return await self._carrier.handle(call)
        except Refusal as refusal:
            return streams.refuse(call.request, refusal)

    async def _migrate(self, call: Call) -> web.Response:
        body = await read_body(call.request)
        try:
            options = decode_object(body, "application/json", "MigrateOptions") if body else {}
            self._create_migration(call, options)
        except Refusal as refusal:
            return streams.refuse(call.request, refusal)
        return web.Response(status=HTTPStatus.ACCEPTED, headers=negotiation.base_headers())

    def _create_migration(self, call: Call, options: Json) -> None:
        namespace, name = call.info.namespace, call.info.name
        if self._store.get(VMS, namespace, name) is None:
            raise not_found(_VM, name)
        if (vmi := self._store.get(VMIS, namespace, name)) is None:
            raise not_found(streams.VMI, name)
        if dig(vmi, "status", "phase") != "Running":
            raise conflict(_VM, name, "VM is not running")
        spec: Json = {"vmiName": name}
        if selector := options.get("addedNodeSelector"):
            spec["addedNodeSelector"] = selector
        migration = {
            "apiVersion": VMIMS.api_version,
            "kind": VMIMS.kind,
            "metadata": {"generateName": _MIGRATION_NAME},
            "spec": spec,
        }
        try:
            self._registry.create(Target(VMIMS, namespace), migration, call.user)
        except Refusal as refusal:
            raise internal_error(refusal.message) from refusal

    def _version(self) -> web.Response:
        kubevirt = next(iter(self._store.list(KUBEVIRTS, KUBEVIRT)), {})
        found = {
            "gitVersion": dig(kubevirt, "status", "observedKubeVirtVersion") or "",
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "",
            "compiler": "",
            "platform": "linux/amd64",
        }
        return _answer(to_wire(found, indent=1), "application/json")


def _unreachable(call: Call) -> web.Response:
    """Return what kube-apiserver says while virt-api does not run."""
    upgrade = websocket.wants_upgrade(call.request.headers)
    failed = "error dialing backend" if upgrade else "error trying to reach service"
    text = f"{failed}: dial tcp {_ADDRESS}: connect: connection refused\n"
    return _answer(text, code=HTTPStatus.SERVICE_UNAVAILABLE)


def _refused_dial(call: Call, fault: DialFault) -> web.Response:
    info = call.info
    match fault:
        case DialFault.UNAUTHORIZED:  # this one and the next are kube-apiserver's own
            raise unauthorized()
        case DialFault.FORBIDDEN:
            subject = Subject(info.group, info.resource)
            raise forbidden(subject, info.name, describe(call.user, info))
        case DialFault.UNAVAILABLE:
            return _answer("service unavailable\n", code=503)
        case DialFault.CONFLICT:
            why = "Not configured with USB Redirection"
            return streams.refuse(call.request, conflict(streams.VMI, info.name, why))
        case DialFault.SLOTS_FULL:
            full = internal_error("Can't connect to websocket (503): websocket: bad handshake")
            return streams.refuse(call.request, full)


def _answer(text: str, media_type: str = streams.TEXT, code: int = 200) -> web.Response:
    headers = negotiation.base_headers() | streams.VIRT_API_HEADERS
    return negotiation.answer(text, media_type, code, headers)
