"""The pod route: what lies behind a QEMU's sockets, by commands in its launcher pod."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import ClusterError, ExecFailed, Forbidden
from kubectl_vmredir.kubevirt.exec import PodExec, PodRef
from kubectl_vmredir.kubevirt.exec_probe import PodProbe
from kubectl_vmredir.kubevirt.occupancy import NOBODY_KNOWS, slots_taken
from kubectl_vmredir.kubevirt.pod_link import dial_slot
from kubectl_vmredir.kubevirt.pods import launchers_of, list_launchers
from kubectl_vmredir.service.ports import SlotOccupancy

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.kubevirt.pod_link import PodLink
    from kubectl_vmredir.model import MigrationUid, VmiView
    from kubectl_vmredir.service.ports import Launcher, Launchers, LinkListener

_LIBVIRTS: Final = (
    "qemu+unix:///session?socket=/var/run/libvirt/virtqemud-sock",
    "qemu:///system",
)
"""Where libvirt answers in a launcher pod: as the user qemu, and where it runs as root."""

# $1 name of the domain, $2 and on where libvirt may be. It can wait long for a domain that is
# just being migrated; in all this must end before we give up.
_ASK_QEMU: Final = """
domain=$1; shift
for libvirt in "$@"; do
    timeout 5 virsh -c "$libvirt" qemu-monitor-command "$domain" '{"execute":"query-chardev"}' &&
        echo asked && exit
done
"""


class KubevirtPodRoute:
    """The pod route of one cluster; a :class:`~kubectl_vmredir.service.ports.PodRoute`.

    Args:
        client: The cluster, and who we are to it.
    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._exec = PodExec(client)
        self._probe = PodProbe(self._exec)

    async def launchers(self, vmi: VmiView, migration: MigrationUid | None) -> Launchers:
        """See :meth:`~kubectl_vmredir.service.ports.PodRoute.launchers`."""
        return launchers_of(vmi, migration, await list_launchers(self._client, vmi))

    async def occupancy(self, launcher: Launcher) -> SlotOccupancy:
        """See :meth:`~kubectl_vmredir.service.ports.PodRoute.occupancy`."""
        pod = _pod(launcher)
        domain = f"{launcher.vmi.namespace}_{launcher.vmi.name}"
        try:
            if why := (await self._probe.ask(pod)).why_no_occupancy:
                return SlotOccupancy(NOBODY_KNOWS, why)
            answer = await self._exec.run(pod, _ASK_QEMU, domain, *_LIBVIRTS, last_word="asked")
        except (ExecFailed, Forbidden) as error:
            return SlotOccupancy(NOBODY_KNOWS, str(error))
        taken = slots_taken(answer)
        return SlotOccupancy(taken, "QEMU does not say it of all slots" if None in taken else "")

    async def dial(
        self, launcher: Launcher, slot: int, listener: LinkListener, ask: Callable[[], None]
    ) -> PodLink:
        """See :meth:`~kubectl_vmredir.service.ports.PodRoute.dial`."""
        pod = _pod(launcher)
        if why := (await self._probe.ask(pod)).why_no_link:
            raise ClusterError(
                f"pod {pod}: {why}", hint="The image of KubeVirt's virt-launcher was made without."
            )
        return await dial_slot(self._exec, pod, launcher, slot, listener, ask)


def _pod(launcher: Launcher) -> PodRef:
    return PodRef(launcher.vmi.namespace, launcher.pod)
