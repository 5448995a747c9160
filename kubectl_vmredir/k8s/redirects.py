"""Where a redirect may lead: nowhere but to the same server (docs/security.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin, urlsplit

from kubectl_vmredir.errors import RedirectRefused
from kubectl_vmredir.k8s.objects import printable

if TYPE_CHECKING:
    from urllib.parse import SplitResult

MAX_REDIRECTS: Final = 3
_DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}


def follow(url: str, location: str) -> str:
    """Return where a redirect leads, if that is the same scheme, host and port.

    Args:
        url: What was asked for.
        location: ``Location`` of the answer; untrusted, may be relative.

    Raises:
        RedirectRefused: If it leads elsewhere.
    """
    target = location
    try:
        target = urljoin(url, location)
        same = _origin(urlsplit(target)) == _origin(urlsplit(url))
    except ValueError:
        same = False
    if not same:
        raise RedirectRefused(
            f"the API server sends us to {_shown(target)}; credentials do not go there",
            hint="Is there a login page or a proxy in the way? Check the kubeconfig's server.",
        )
    return target


def too_many(url: str) -> RedirectRefused:
    """Return the error for a chain of redirects that does not end."""
    return RedirectRefused(f"the API server sends us round in circles, last to {_shown(url)}")


def _origin(parts: SplitResult) -> tuple[str, str, int | None]:
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials in the target of a redirect")
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme)


def _shown(url: str) -> str:
    """Return scheme and host: what follows may hold a secret of somebody's login."""
    try:
        parts = urlsplit(url)
        return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    except ValueError:
        return "somewhere that is not a URL"
