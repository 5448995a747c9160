"""The lab's certificate authorities and certificates.

Two authorities, as in a real cluster: ``cluster`` (API server, users) and ``kubevirt``
(virt-api and virt-handler among themselves). Made once per folder, mode 0700, keys 0600.
Keys are EC P-256: RSA keys would cost a second of start-up time.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .files import write_private

if TYPE_CHECKING:
    from pathlib import Path

HANDLER_DNS: Final = "virt-handler.kubevirt.pod.cluster.local"
"""The name under which each virt-handler's server certificate is checked."""

_LOOPBACK: Final = "127.0.0.1"
_PEM: Final = serialization.Encoding.PEM
_LIFETIME: Final = dt.timedelta(days=3650)
_CLOCK_SKEW: Final = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """Paths of a certificate and its key, both PEM."""

    certificate: Path
    key: Path

    @classmethod
    def at(cls, folder: Path, name: str) -> Self:
        """Return where the pair of that name is, or is to be."""
        return cls(folder / f"{name}.crt", folder / f"{name}.key")

    @property
    def exists(self) -> bool:
        """Whether both files are there."""
        return self.certificate.exists() and self.key.exists()

    def write(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        """Write both files; the key can be read by its owner only, from the start."""
        private = key.private_bytes(
            _PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(self.key, private.decode())
        self.certificate.write_bytes(certificate.public_bytes(_PEM))


def _name(common_name: str, groups: tuple[str, ...] = ()) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    parts += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name(parts)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _LIFETIME)
    )


class Authority:
    """One CA, made at first use of its folder and found again later."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._pair = Pair.at(folder, f"{name}-ca")
        if not self._pair.exists:
            self._create(_name(name))
        self._certificate = x509.load_pem_x509_certificate(self._pair.certificate.read_bytes())
        key = serialization.load_pem_private_key(self._pair.key.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key

    @property
    def pem(self) -> str:
        """The CA's certificate."""
        return self._pair.certificate.read_text(encoding="ascii")

    def issue(
        self,
        file_name: str,
        common_name: str,
        *,
        groups: tuple[str, ...] = (),
        dns: tuple[str, ...] = (),
        addresses: tuple[str, ...] = (),
    ) -> Pair:
        """Return a certificate for client and server use, made if it is not there yet.

        Args:
            file_name: Its name in the folder, without ending.
            common_name: CN of the subject: the user name of a client.
            groups: O of the subject: the groups of a client.
            dns: Names of a server.
            addresses: IP addresses of a server.
        """
        pair = Pair.at(self._folder, file_name)
        if pair.exists:
            return pair
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = _builder(_name(common_name, groups), self._certificate.subject, key)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
            critical=False,
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pair.write(builder.sign(self._key, hashes.SHA256()), key)
        return pair

    def _create(self, name: x509.Name) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _builder(name, name, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        self._pair.write(certificate, key)


class Pki:
    """All certificates of one lab.

    Attributes:
        cluster: Signs the API server's certificate, and those of users.
        kubevirt: Signs those by which virt-api and virt-handler know each other.
        api_server: Certificate of the API server.
        alice: Client certificate of the user alice.
        handler: Server certificate of each virt-handler; see :data:`HANDLER_DNS`.
        handler_client: What virt-api shows to a virt-handler.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.cluster = Authority(folder, "cluster")
        self.kubevirt = Authority(folder, "kubevirt")
        self.api_server = self.cluster.issue(
            "api-server",
            "kube-apiserver",
            dns=("localhost", "kubernetes", "kubernetes.default.svc"),
            addresses=(_LOOPBACK,),
        )
        self.alice = self.cluster.issue("alice", "alice")
        self.handler = self.kubevirt.issue(
            "virt-handler",
            "kubevirt.io:system:node:virt-handler",
            dns=(HANDLER_DNS, "localhost"),
            addresses=(_LOOPBACK,),
        )
        self.handler_client = self.kubevirt.issue(
            "virt-handler-client", "kubevirt.io:system:client:virt-handler"
        )

    def server_context(self) -> ssl.SSLContext:
        """Return what the API server listens with: client certificates are welcome."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=self.cluster.pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_cert_chain(self.api_server.certificate, self.api_server.key)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def handler_context(self) -> ssl.SSLContext:
        """Return what virt-api dials a virt-handler with."""
        context = ssl.create_default_context(cadata=self.kubevirt.pem)
        context.load_cert_chain(self.handler_client.certificate, self.handler_client.key)
        return context
