"""TLS contexts as client-go makes them."""

from __future__ import annotations

import os
import ssl
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import KubeconfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kubectl_vmredir.k8s.kubeconfig import ClusterConfig


SYSTEM_BUNDLES: Final = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Arch
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Fedora, RHEL
    Path("/etc/ssl/ca-bundle.pem"),  # openSUSE
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),  # RHEL 7 and later
    Path("/etc/ssl/cert.pem"),  # Alpine
)
"""Where systems keep what they trust. Source: Go, crypto/x509/root_linux.go."""


@dataclass(frozen=True, slots=True)
class CertificatePair:
    """A client certificate and its key, PEM."""

    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)


class _NamedContext(ssl.SSLContext):
    """A context that checks the certificate for one name, whatever host is dialed.

    httpcore passes no other name on through a proxy.
    """

    server_name: str | None = None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """See :meth:`ssl.SSLContext.wrap_bio`."""
        name = self.server_name or server_hostname
        return super().wrap_bio(incoming, outgoing, server_side, name, session)


def client_context(config: ClusterConfig, pair: CertificatePair | None) -> ssl.SSLContext:
    """Return a context for connections to the API server; HTTP/1.1 only.

    Raises:
        KubeconfigError: If the certificates of the kubeconfig cannot be used.
    """
    context = _NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.server_name = config.tls_server_name
    context.set_alpn_protocols(["http/1.1"])
    # What Go does: any certificate of the kubeconfig is an anchor, also one that is not
    # self-signed, and the extensions that RFC 5280 asks for may be missing.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    if config.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif config.ca is None:
        trust_system(context)
    else:
        try:
            context.load_verify_locations(cadata=config.ca.decode("ascii"))
        except (ssl.SSLError, ValueError) as exc:
            raise KubeconfigError(
                "the kubeconfig's certificate-authority holds no PEM certificate"
            ) from exc
    if pair is not None:
        _load_pair(context, pair)
    return context


def trust_system(context: ssl.SSLContext, bundles: Sequence[Path] = SYSTEM_BUNDLES) -> None:
    """Trust whom this system trusts.

    The OpenSSL that comes with the packaged program is another system's, and looks there only.
    """
    context.load_default_certs()
    known = ssl.get_default_verify_paths()
    if known.cafile is None and known.capath is None:
        for bundle in filter(Path.exists, bundles):
            context.load_verify_locations(bundle)
            return


def _load_pair(context: ssl.SSLContext, pair: CertificatePair) -> None:
    with _in_memory(pair.certificate) as certificate, _in_memory(pair.key) as key:
        try:
            # A key with a pass phrase would ask on the terminal.
            context.load_cert_chain(certificate, key, password=b"")
        except ssl.SSLError as exc:
            raise KubeconfigError(
                "the user's client certificate and key cannot be used: "
                f"{exc.reason or 'not PEM, or a key with a pass phrase'}"
            ) from None


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Give a path to content that never touches a disk: ssl reads keys from paths only."""
    descriptor = os.memfd_create("vmredir-pem")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
