"""Which proxy leads to a server, by the rules of Go's programs.

Source: golang.org/x/net/http/httpproxy; client-go, where ``proxy-url`` goes before the environment.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kubectl_vmredir.errors import KubeconfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


def proxy_for(url: str, configured: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy to ``url``, None to go there directly.

    Args:
        url: Where to go.
        configured: ``proxy-url`` of the kubeconfig; asked before the environment.
        environ: HTTPS_PROXY, HTTP_PROXY, NO_PROXY, or in lower case.

    Raises:
        KubeconfigError: If it is not the URL of a proxy that we can speak to.
    """
    if configured:
        return _checked(configured)
    target = urlsplit(url)
    name = "HTTPS_PROXY" if target.scheme == "https" else "HTTP_PROXY"
    found = environ.get(name) or environ.get(name.lower())
    excluded = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    host = target.hostname or ""
    port = target.port or (443 if target.scheme == "https" else 80)
    if not found or not _goes_through_proxy(host, port, excluded):
        return None
    return _checked(found)


def _checked(text: str) -> str:
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        good = parts.scheme == "http" and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        # Not shown: it may hold a password.
        raise KubeconfigError(
            "the proxy is not an http URL",
            hint=(
                "Check proxy-url in the kubeconfig and HTTPS_PROXY; proxies reached by SOCKS or "
                "TLS are not supported."
            ),
        )
    return url


def _goes_through_proxy(host: str, port: int, excluded: str) -> bool:
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    return not any(
        _matches(entry.strip().lower(), host.lower(), port, address)
        for entry in excluded.split(",")
        if entry.strip()
    )


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None


def _matches(
    entry: str, host: str, port: int, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
) -> bool:
    if entry == "*":
        return True
    if address is not None and "/" in entry:
        try:
            return address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, colon, wanted_port = entry.rpartition(":")
    if colon and wanted_port.isdigit() and _address(entry) is None:
        if int(wanted_port) != port:
            return False
        entry = name
    if address is not None:
        return _address(entry) == address
    domain = entry.removeprefix("*")
    if domain.startswith("."):
        return host.endswith(domain)
    return host == domain or host.endswith(f".{domain}")
