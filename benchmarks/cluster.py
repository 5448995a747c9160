"""An API server with so many VMs that all of them run, and one after the other changes.

Whatever it says is encoded before anybody asks: it is not what limits its client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NAMESPACE: Final = "benchmark"
CHANGES_PER_S: Final = 50
"""Of 10,000 VMs each changes every 200 s."""

_API: Final = "kubevirt.io/v1"
_ROOT: Final = f"/apis/{_API}"
_INSIDE: Final = f"{_ROOT}/namespaces/{NAMESPACE}"
_JSON: Final = "application/json"


def name_of(number: int) -> str:
    """Return the name of a VM."""
    return f"vm-{number:05}"


class Cluster:
    """Answers for the VMs.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self._vmis = [json.dumps(vmi(number)).encode() for number in range(count)]
        self._numbers = {name_of(number): number for number in range(count)}

    def app(self) -> web.Application:
        """Return what serves it."""
        app = web.Application()
        app.add_routes(
            [
                web.get(f"{_ROOT}/virtualmachineinstances", self._list),
                web.get(f"{_INSIDE}/virtualmachineinstances", self._list),
                web.get(f"{_INSIDE}/virtualmachineinstances/{{name}}", self._get),
                web.get(f"{_INSIDE}/virtualmachineinstancemigrations", self._migrations),
                web.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", self._review),
            ]
        )
        return app

    async def _list(self, request: web.Request) -> web.StreamResponse:
        vmis = self._vmis
        if selector := request.query.get("fieldSelector"):
            vmis = [vmis[self._numbers[selector.removeprefix("metadata.name=")]]]
        if "watch" in request.query:
            return await self._watch(request, vmis)
        begin = int(request.query.get("continue", 0))
        end = begin + int(request.query.get("limit", len(vmis)))
        return _page("VirtualMachineInstanceList", vmis[begin:end], end if end < len(vmis) else 0)

    async def _get(self, request: web.Request) -> web.Response:
        return web.Response(
            body=self._vmis[self._numbers[request.match_info["name"]]], content_type=_JSON
        )

    async def _migrations(self, request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await self._watch(request, [])
        return _page("VirtualMachineInstanceMigrationList", [], 0)

    async def _review(self, request: web.Request) -> web.Response:
        return web.json_response({"status": {"userInfo": {"username": "alice", "uid": "1"}}})

    async def _watch(self, request: web.Request, vmis: Sequence[bytes]) -> web.StreamResponse:
        """Tell of changes, one VM after the other; never end by itself."""
        response = web.StreamResponse(headers={"Content-Type": _JSON})
        await response.prepare(request)
        with suppress(ConnectionError):
            while len(vmis) > 1:
                for vmi in vmis:
                    changed = vmi.replace(b'"node-a"', b'"node-b"')
                    await response.write(b'{"type":"MODIFIED","object":' + changed + b"}\n")
                    await asyncio.sleep(1 / CHANGES_PER_S)
            await asyncio.Event().wait()
        return response


def _page(kind: str, items: Sequence[bytes], following: int) -> web.Response:
    metadata = {"resourceVersion": "1000", "continue": str(following) if following else ""}
    head = json.dumps({"apiVersion": _API, "kind": kind, "metadata": metadata}).encode()
    body = head[:-1] + b',"items":[' + b",".join(items) + b"]}"
    return web.Response(body=body, content_type=_JSON)


def vmi(number: int) -> Mapping[str, Any]:
    """Return a VMI of the usual size: 7 to 8 KB, as virt-controller and virt-handler leave it."""
    name, uid = name_of(number), f"00000000-0000-4000-8000-{number:012}"
    started = "2026-01-01T00:00:00Z"
    return {
        "apiVersion": _API,
        "kind": "VirtualMachineInstance",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": uid,
            "resourceVersion": str(number + 1),
            "creationTimestamp": started,
            "finalizers": ["kubevirt.io/virtualMachineControllerFinalize"],
            "labels": {f"example.com/label-{each}": f"value-{each}" for each in range(8)},
            "annotations": {f"example.com/note-{each}": "x" * 60 for each in range(6)},
            "managedFields": [
                {
                    "manager": manager,
                    "operation": "Update",
                    "time": started,
                    "fieldsV1": {f"f:field-{each}": {".": {}, "f:inner": {}} for each in range(24)},
                }
                for manager in ("virt-controller", "virt-handler")
            ],
        },
        "spec": {
            "architecture": "amd64",
            "domain": {
                "cpu": {"cores": 2, "sockets": 1, "threads": 1, "model": "host-model"},
                "memory": {"guest": "4Gi"},
                "machine": {"type": "q35"},
                "devices": {
                    "clientPassthrough": {},
                    "disks": [
                        {"name": f"disk-{each}", "disk": {"bus": "virtio"}, "bootOrder": each + 1}
                        for each in range(4)
                    ],
                    "interfaces": [{"name": "default", "masquerade": {}, "model": "virtio"}],
                },
                "resources": {"requests": {"memory": "4Gi", "cpu": "200m"}},
            },
            "networks": [{"name": "default", "pod": {}}],
            "tolerations": [
                {"key": f"example.com/{each}", "operator": "Exists", "effect": "NoSchedule"}
                for each in range(4)
            ],
            "volumes": [
                {"name": f"disk-{each}", "persistentVolumeClaim": {"claimName": f"{name}-{each}"}}
                for each in range(4)
            ],
        },
        "status": {
            "phase": "Running",
            "nodeName": "node-a",
            "activePods": {uid: "node-a"},
            "conditions": [
                {
                    "type": kind,
                    "status": "True",
                    "lastProbeTime": None,
                    "lastTransitionTime": started,
                }
                for kind in ("Ready", "LiveMigratable", "StorageLiveMigratable", "AgentConnected")
            ],
            "guestOSInfo": {"id": "fedora", "name": "Fedora Linux", "kernelRelease": "6.11.4"},
            "interfaces": [
                {
                    "name": "default",
                    "ipAddress": f"10.0.{number >> 8}.{number & 255}",
                    "ipAddresses": [f"10.0.{number >> 8}.{number & 255}"],
                    "mac": "02:00:00:00:00:01",
                    "queueCount": 1,
                }
            ],
            "phaseTransitionTimestamps": [
                {"phase": phase, "phaseTransitionTimestamp": started}
                for phase in ("Pending", "Scheduling", "Scheduled", "Running")
            ],
            "volumeStatus": [
                {
                    "name": f"disk-{each}",
                    "target": f"vd{each}",
                    "persistentVolumeClaimInfo": {
                        "accessModes": ["ReadWriteMany"],
                        "capacity": {"storage": "30Gi"},
                        "volumeMode": "Block",
                    },
                }
                for each in range(4)
            ],
        },
    }


async def serve(count: int, certificate: str) -> None:
    """Serve, on a port that is the first line on stdout, until stdin ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    runner = web.AppRunner(Cluster(count).app(), handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    await lines.read()
    await runner.cleanup()


def main() -> None:
    """Serve a cluster."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--certificate", required=True, help="PEM file with key")
    parser.add_argument("--vms", type=int, required=True)
    options = parser.parse_args()
    asyncio.run(serve(options.vms, options.certificate))


if __name__ == "__main__":
    main()
