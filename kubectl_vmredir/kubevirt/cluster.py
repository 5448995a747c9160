"""VMIs and migrations of a cluster, as its API server tells them."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import ClusterError, Forbidden, MigrationRefused, VmiNotFound
from kubectl_vmredir.k8s.objects import as_yaml
from kubectl_vmredir.k8s.status import StatusError
from kubectl_vmredir.kubevirt import paths
from kubectl_vmredir.kubevirt.refusals import explained
from kubectl_vmredir.kubevirt.vmi import vmi_view, vmim_view
from kubectl_vmredir.kubevirt.watching import Kind, Watch
from kubectl_vmredir.model import Identity
from kubectl_vmredir.service.slot_names import SLOTS_ANNOTATION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.objects import JsonObject
    from kubectl_vmredir.model import VmimView, VmiRef, VmiUid, VmiView
    from kubectl_vmredir.service.ports import ClusterEvent

logger = logging.getLogger(__name__)

_MIGRATE_ROLE: Final = "kubevirt.io:migrate"


class KubevirtCluster:
    """One cluster as one user sees it; a :class:`~kubectl_vmredir.service.ports.Cluster`.

    Args:
        client: The cluster, and who we are to it.
    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._complained: set[tuple[VmiUid, str]] = set()

    @property
    def default_namespace(self) -> str:
        """See :attr:`~kubectl_vmredir.service.ports.Cluster.default_namespace`."""
        return self._client.config.namespace

    async def vmis(self, namespace: str | None, selector: str = "") -> Sequence[VmiView]:
        """See :meth:`~kubectl_vmredir.service.ports.Cluster.vmis`.

        Who may not list all namespaces is shown the context's.
        """
        params = {"labelSelector": selector} if selector else {}
        try:
            listed = await self._client.read_all(paths.vmis(namespace), self._view, params)
        except Forbidden as error:
            if namespace is not None:
                raise
            return await self.vmis(self._narrowed(error), selector)
        except StatusError as error:
            raise explained(error) from error
        return listed.items

    async def ready(self) -> None:
        """See :meth:`~kubectl_vmredir.service.ports.Cluster.ready`."""
        await self._client.access()

    async def vmi(self, ref: VmiRef) -> VmiView:
        """See :meth:`~kubectl_vmredir.service.ports.Cluster.vmi`."""
        try:
            return self._view(await self._client.get(paths.vmi(ref)))
        except StatusError as error:
            if error.reason == "NotFound":
                raise VmiNotFound(ref) from error
            raise explained(error) from error

    def watch(
        self, namespace: str, vmi: str | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[ClusterEvent]]:
        """See :meth:`~kubectl_vmredir.service.ports.Cluster.watch`."""
        only = {"fieldSelector": f"metadata.name={vmi}"} if vmi else {}
        return Watch(
            self._client,
            {Kind.VMI: (paths.vmis(namespace), only), Kind.VMIM: (paths.vmims(namespace), {})},
        )

    @asynccontextmanager
    async def watch_vmis(
        self, namespace: str | None, selector: str = ""
    ) -> AsyncIterator[AsyncIterator[ClusterEvent]]:
        """See :meth:`~kubectl_vmredir.service.ports.Cluster.watch_vmis`."""
        if namespace is None:
            try:
                await self._client.get(paths.vmis(None), {"limit": 1})
            except Forbidden as error:
                namespace = self._narrowed(error)
            except StatusError as error:
                raise explained(error) from error
        params = {"labelSelector": selector} if selector else {}
        async with Watch(self._client, {Kind.VMI: (paths.vmis(namespace), params)}) as events:
            yield events

    async def migrate(self, ref: VmiRef) -> VmimView:
        """See :meth:`~kubectl_vmredir.service.ports.Cluster.migrate`."""
        vmim: JsonObject = {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachineInstanceMigration",
            "metadata": {"generateName": "kubevirt-migrate-vm-"},
            "spec": {"vmiName": ref.name},
        }
        try:
            return vmim_view(await self._client.create(paths.vmims(ref.namespace), vmim))
        except Forbidden:
            return await self._migrate_like_virtctl(ref)
        except StatusError as error:
            raise _not_migrated(ref, error) from error

    async def may_migrate(self, namespace: str) -> bool:
        """See :meth:`~kubectl_vmredir.service.ports.Cluster.may_migrate`."""
        return await self._may(paths.CREATE_VMIM, namespace) or await self._may(
            paths.UPDATE_MIGRATE, namespace
        )

    async def name_slots(self, ref: VmiRef, names: Sequence[str]) -> bool:
        """See :meth:`~kubectl_vmredir.service.ports.Cluster.name_slots`."""
        named: JsonObject = {"metadata": {"annotations": {SLOTS_ANNOTATION: ",".join(names)}}}
        # The VM first: of a VMI alone the names would be lost at the next restart.
        lasting = await self._patched(paths.vm(ref), {"spec": {"template": named}})
        if not await self._patched(paths.vmi(ref), named) and not lasting:
            raise VmiNotFound(ref)
        return lasting

    async def vmi_yaml(self, ref: VmiRef) -> str:
        """See :meth:`~kubectl_vmredir.service.ports.Cluster.vmi_yaml`."""
        try:
            return as_yaml(await self._client.get(paths.vmi(ref)))
        except StatusError as error:
            if error.reason == "NotFound":
                raise VmiNotFound(ref) from error
            raise explained(error) from error

    async def identity(self) -> Identity:
        """See :meth:`~kubectl_vmredir.service.ports.Cluster.identity`."""
        review: JsonObject = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "SelfSubjectReview",
        }
        try:
            found = await self._client.create(paths.SELF_SUBJECT_REVIEWS, review)
        except StatusError as error:
            # Kubernetes before 1.28 has none.
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return self._unreviewed()
        match found:
            case {"status": {"userInfo": {"username": str(username), **rest}}}:
                return Identity(username, str(rest.get("uid") or ""))
            case _:
                return self._unreviewed()

    async def _may(self, act: JsonObject, namespace: str) -> bool:
        review: JsonObject = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {**act, "namespace": namespace}},
        }
        found = await self._client.create(paths.SELF_SUBJECT_ACCESS_REVIEWS, review)
        match found:
            case {"status": {"allowed": bool(allowed)}}:
                return allowed
            case _:
                raise ClusterError("the API server does not say what the user may do")

    async def _patched(self, path: str, change: JsonObject) -> bool:
        """Change an object; return whether there is one."""
        try:
            await self._client.patch(path, change)
        except StatusError as error:
            if error.reason == "NotFound":
                return False
            raise explained(error) from error
        return True

    def _view(self, vmi: JsonObject) -> VmiView:
        """Read a VMI; say once what is wrong with the names of its slots."""
        view = vmi_view(vmi)
        complaint = view.uid, view.slots_problem
        if view.slots_problem and complaint not in self._complained:
            self._complained.add(complaint)
            logger.warning(
                "VM %s: %s is ignored: %s", view.ref, SLOTS_ANNOTATION, view.slots_problem
            )
        return view

    def _narrowed(self, error: Forbidden) -> str:
        """Return the namespace to show instead of all, which is not allowed; and say so."""
        logger.warning("%s; showing namespace %s only", error, self.default_namespace)
        return self.default_namespace

    def _unreviewed(self) -> Identity:
        config = self._client.config
        return Identity(config.impersonation.user or config.user.name, reviewed=False)

    async def _migrate_like_virtctl(self, ref: VmiRef) -> VmimView:
        """Ask virt-api for a migration: the right to that is another than to create VMIMs."""
        before = {vmim.uid for vmim in await self._migrations(ref)}
        try:
            await self._client.update(paths.migrate(ref), {})
        except Forbidden as error:
            raise Forbidden(
                f"{error}, nor create migrations",
                hint=(
                    f"Ask for the ClusterRole {_MIGRATE_ROLE} in namespace {ref.namespace}; the "
                    "role edit does not include it."
                ),
            ) from error
        except StatusError as error:
            raise _not_migrated(ref, error) from error
        for vmim in await self._migrations(ref):
            if vmim.uid not in before:
                return vmim
        raise MigrationRefused(f"no migration of VM {ref} came of it")

    async def _migrations(self, ref: VmiRef) -> Sequence[VmimView]:
        listed = await self._client.list_all(paths.vmims(ref.namespace))
        return [vmim for item in listed.items if (vmim := vmim_view(item)).vmi_name == ref.name]


def _not_migrated(ref: VmiRef, error: StatusError) -> ClusterError:
    if error.reason == "NotFound":
        return VmiNotFound(ref)
    if error.retryable:
        return error
    return MigrationRefused(f"VM {ref} is not migrated: {error.message}")
