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
    from collections.abc import Awaitable, Callable

    from kubectl_vmredir.errors import VmRedirError
    from kubectl_vmredir.k8s.client import KubeClient
    from kubectl_vmredir.k8s.transport import Access
    from kubectl_vmredir.kubevirt.stream import Websocket
    from kubectl_vmredir.model import VmiRef
    from kubectl_vmredir.service.ports import LinkListener

_DOUBTFUL: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


async def dial_as_user(
    client: KubeClient,
    ask: Callable[[], None],
    dial: Callable[[Access], Awaitable[Websocket | Refusal]],
) -> Websocket | Refusal:
    """Dial with the user's credentials, and once more with new ones where they have become old.

    Args:
        client: The cluster, and who we are to it.
        ask: Called before each try; what it raises ends the dial.
        dial: Does it.

    Raises:
        ClusterError: If it cannot be done.
    """
    access = await client.access()
    ask()
    answer = await dial(access)
    if (
        isinstance(answer, Refusal)
        and answer.status == HTTPStatus.UNAUTHORIZED
        and client.reject(access.credential)
    ):
        access = await client.access()
        ask()
        answer = await dial(access)
    return answer


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

        async def dial(access: Access) -> Websocket | Refusal:
            url = f"{access.server}{paths.usbredir(vmi)}"
            return await websocket.dial(url, access, _Ears(listener))

        answer = await dial_as_user(self._client, ask, dial)
        if isinstance(answer, Refusal):
            error = refused(answer, vmi)
            raise self._patience[vmi].weigh(error) if answer.status in _DOUBTFUL else error
        self._patience[vmi].allowed()
        return ApiLink(answer)


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
