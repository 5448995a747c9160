"""The api route: links through the ``usbredir`` subresource of virt-api."""

from __future__ import annotations

from collections import defaultdict
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.k8s.patience import Patience
from kubectl_vmredir.kubevirt import paths, websocket
from kubectl_vmredir.kubevirt.handshake import Refusal
from kubectl_vmredir.kubevirt.refusals import refused
from kubectl_vmredir.model import Route, Unknown

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubectl_vmredir.errors import VmRedirError
    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.transport import Access
    from kubectl_vmredir.kubevirt.stream import Websocket
    from kubectl_vmredir.model import VmiRef
    from kubectl_vmredir.service.ports import LinkListener

_DOUBTFUL: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


class ApiDialer:
    """Opens links over the api route; a :class:`~kubectl_vmredir.service.ports.Dialer`.

    Args:
        client: The cluster, and who we are to it.
    """

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._patience: defaultdict[VmiRef, Patience] = defaultdict(Patience)

    async def dial(self, vmi: VmiRef, listener: LinkListener, ask: Callable[[], None]) -> ApiLink:
        """Open a link; the caller owns it.

        A cancellation before the cluster has accepted gives the dial up; after that it is put off
        until the caller has the link. Time limits are kept in here.

        Args:
            vmi: Where to.
            listener: Hears what happens on the link.
            ask: Called before each try; what it raises ends the dial.

        Raises:
            ClusterError: If it cannot be opened; ``retryable`` says whether to try again.
        """
        access = await self._client.access()
        ask()
        answer = await self._dial(vmi, access, listener)
        if (
            isinstance(answer, Refusal)
            and answer.status == HTTPStatus.UNAUTHORIZED
            and self._client.reject(access.credential)
        ):
            access = await self._client.access()
            ask()
            answer = await self._dial(vmi, access, listener)
        if isinstance(answer, Refusal):
            error = refused(answer, vmi)
            raise self._patience[vmi].weigh(error) if answer.status in _DOUBTFUL else error
        self._patience[vmi].allowed()
        return ApiLink(answer)

    async def _dial(
        self, vmi: VmiRef, access: Access, listener: LinkListener
    ) -> Websocket | Refusal:
        return await websocket.dial(
            f"{access.server}{paths.usbredir(vmi)}", access, _Ears(listener)
        )


class ApiLink:
    """A link over the api route; a :class:`~kubectl_vmredir.service.ports.Link`.

    Its round trips are those to virt-handler, and it never learns what QEMU consumed.
    """

    def __init__(self, stream: Websocket) -> None:
        self.send = stream.send
        self._stream = stream

    @property
    def route(self) -> Route:
        """See :attr:`~kubectl_vmredir.service.ports.Link.route`."""
        return Route.API

    @property
    def sent(self) -> int:
        """See :attr:`~kubectl_vmredir.service.ports.Link.sent`."""
        return self._stream.sent

    def pause_reading(self) -> None:
        """See :meth:`~kubectl_vmredir.service.ports.Link.pause_reading`."""
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        """See :meth:`~kubectl_vmredir.service.ports.Link.resume_reading`."""
        self._stream.resume_reading()

    def ping(self) -> None:
        """See :meth:`~kubectl_vmredir.service.ports.Link.ping`."""
        self._stream.ping()

    async def close(self) -> None:
        """See :meth:`~kubectl_vmredir.service.ports.Link.close`."""
        await self._stream.close()


class _Ears:
    """Tells a link's listener what a websocket's listener hears."""

    def __init__(self, listener: LinkListener) -> None:
        self.received = listener.link_received
        self.writable = listener.link_writable
        self.pong = listener.link_pong
        self._listener = listener

    def ended(self, cause: VmRedirError) -> None:
        self._listener.link_ended(Unknown(), cause)
