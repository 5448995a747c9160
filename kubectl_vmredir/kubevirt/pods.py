"""The launcher pods of a VMI: where its QEMUs run.

Sources: KubeVirt, pkg/virt-controller/services/template.go (labels) and
pkg/controller/controller.go, CurrentVMIPod; docs/facts/kubevirt.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.k8s.objects import metadata, part, text
from kubectl_vmredir.kubevirt import paths
from kubectl_vmredir.model import MigrationUid
from kubectl_vmredir.service.ports import Launcher, Launchers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.model import VmiUid, VmiView

_LAUNCHERS_OF: Final = "kubevirt.io=virt-launcher,kubevirt.io/created-by={}"
_MIGRATION: Final = "kubevirt.io/migrationJobUID"


@dataclass(frozen=True, slots=True)
class LauncherPod:
    """A launcher pod, as much as matters here.

    Attributes:
        name: Of the pod.
        node: Where it is; empty before it was scheduled.
        running: Whether commands can be run there.
        created: Its creationTimestamp.
        migration: For which one it was made; empty for the pod that the VM was started in.
    """

    name: str
    node: str
    running: bool
    created: str
    migration: MigrationUid


async def list_launchers(client: KubeClient, vmi: VmiView) -> list[LauncherPod]:
    """Return all launcher pods of a VMI, those that have ended as well.

    Raises:
        ClusterError: If they cannot be listed.
    """
    selector = {"labelSelector": _LAUNCHERS_OF.format(vmi.uid)}
    listed = await client.read_all(paths.pods(vmi.ref.namespace), launcher_pod, selector)
    return list(listed.items)


def launcher_pod(pod: JsonObject) -> LauncherPod:
    """Return what matters of a Pod; what is not of the expected type counts as absent."""
    meta = metadata(pod)
    return LauncherPod(
        name=text(meta, "name"),
        node=text(part(pod, "spec"), "nodeName"),
        running=text(part(pod, "status"), "phase") == "Running"
        and not text(meta, "deletionTimestamp"),
        created=text(meta, "creationTimestamp"),
        migration=MigrationUid(text(part(meta, "labels"), _MIGRATION)),
    )


def launchers_of(
    vmi: VmiView, migration: MigrationUid | None, pods: Iterable[LauncherPod]
) -> Launchers:
    """Return which of the pods of a VMI are the ends of a migration.

    Args:
        vmi: The VM.
        migration: The one that is under way, if one is.
        pods: All of its pods.
    """
    running = [pod for pod in pods if pod.running]
    # As KubeVirt itself: a pod of a former stay may not have ended yet.
    here = [pod for pod in running if pod.node == vmi.node and vmi.node]
    current = max(here, key=lambda pod: (pod.created, pod.name), default=None)
    target = next((pod for pod in running if _is_target(pod, vmi, migration)), None)
    return Launchers(_launcher(current, vmi), _launcher(target, vmi))


def slot_socket(vmi: VmiUid, slot: int) -> str:
    """Return the path of QEMU's socket of a slot, as launcher pods have it."""
    return f"/run/kubevirt-private/{vmi}/virt-usbredir-{slot}"


def _is_target(pod: LauncherPod, vmi: VmiView, migration: MigrationUid | None) -> bool:
    if not migration:
        return False
    # The VMI names it at the hand-off, its label does before that.
    if vmi.migration is not None and vmi.migration.uid == migration and vmi.migration.target_pod:
        return pod.name == vmi.migration.target_pod
    return pod.migration == migration


def _launcher(pod: LauncherPod | None, vmi: VmiView) -> Launcher | None:
    return None if pod is None else Launcher(vmi.ref, vmi.uid, pod.name)
