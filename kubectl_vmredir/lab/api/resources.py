"""Which resources this API server has; the rest of it reads this table.

Names, verbs and columns are those of kube-apiserver and of KubeVirt's CRDs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .status import Subject

_CORE_VERBS: Final = (
    "create", "delete", "deletecollection", "get", "list", "patch", "update", "watch",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource type.

    Attributes:
        group: API group, empty for the core.
        version: API version.
        plural: Name in paths.
        kind: Kind of its objects.
        namespaced: Whether its objects live in namespaces.
        custom: Whether a CRD defines it: no strategic patches, and a status subresource
            that takes nothing but the status.
        has_status: Whether there is a status subresource, and the status is ignored elsewhere.
        short_names: What kubectl also takes.
        categories: Groups of resources, for instance ``all``.
        fields: Field selectors beside metadata.name and metadata.namespace, as dotted paths.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    custom: bool = False
    has_status: bool = False
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """``apiVersion`` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        """Singular name, as discovery has it."""
        return self.kind.lower()

    @property
    def verbs(self) -> tuple[str, ...]:
        """Verbs of the resource itself."""
        without = "deletecollection" if self.plural == "namespaces" else ""
        return tuple(verb for verb in _CORE_VERBS if verb != without)

    @property
    def subject(self) -> Subject:
        """The resource in refusals."""
        return Subject(self.group, self.plural)

    @property
    def kind_subject(self) -> Subject:
        """The kind in refusals that speak of it instead."""
        return Subject(self.group, self.kind)


@dataclass(frozen=True, slots=True)
class Target:
    """What a write is about.

    Attributes:
        resource: Type of the object.
        namespace: Its namespace; empty for none.
        name: Its name; empty for a new object, which says it itself.
        subresource: ``status``, or empty.
    """

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


NAMESPACES: Final = Resource(
    "", "v1", "namespaces", "Namespace",
    namespaced=False, has_status=True, short_names=("ns",), fields=("status.phase",),
)  # fmt: skip
NODES: Final = Resource(
    "", "v1", "nodes", "Node",
    namespaced=False, has_status=True, short_names=("no",), fields=("spec.unschedulable",),
)  # fmt: skip
PODS: Final = Resource(
    "", "v1", "pods", "Pod",
    has_status=True, short_names=("po",), categories=("all",),
    fields=("spec.nodeName", "status.phase", "status.podIP"),
)  # fmt: skip
EVENTS: Final = Resource(
    "", "v1", "events", "Event",
    short_names=("ev",),
    fields=(
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name",
        "involvedObject.uid", "reason", "type",
    ),
)  # fmt: skip
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap", short_names=("cm",))
SECRETS: Final = Resource("", "v1", "secrets", "Secret", fields=("type",))
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease")
VMS: Final = Resource(
    "kubevirt.io", "v1", "virtualmachines", "VirtualMachine",
    custom=True, has_status=True, short_names=("vm", "vms"), categories=("all",),
)  # fmt: skip
VMIS: Final = Resource(
    "kubevirt.io", "v1", "virtualmachineinstances", "VirtualMachineInstance",
    custom=True, short_names=("vmi", "vmis"), categories=("all",),
)  # fmt: skip
VMIMS: Final = Resource(
    "kubevirt.io", "v1", "virtualmachineinstancemigrations", "VirtualMachineInstanceMigration",
    custom=True, has_status=True, short_names=("vmim", "vmims"), categories=("all",),
)  # fmt: skip
KUBEVIRTS: Final = Resource(
    "kubevirt.io", "v1", "kubevirts", "KubeVirt",
    custom=True, has_status=True, short_names=("kv", "kvs"), categories=("all",),
)  # fmt: skip

RESOURCES: Final = (
    CONFIG_MAPS, EVENTS, NAMESPACES, NODES, PODS, SECRETS, LEASES, VMS, VMIS, VMIMS, KUBEVIRTS,
)  # fmt: skip

BY_PATH: Final = {(each.group, each.version, each.plural): each for each in RESOURCES}
"""Resources by group, version and plural."""

SUBRESOURCES: Final = "subresources.kubevirt.io"
"""The API group of virt-api."""

SUBRESOURCES_VERSIONS: Final = ("v1", "v1alpha3")
SUBRESOURCES_LISTED: Final = (
    "virtualmachineinstances/vnc",
    "virtualmachineinstances/console",
    "virtualmachines/migrate",
)
"""What discovery tells of it: usbredir is not there, as in the real one."""
