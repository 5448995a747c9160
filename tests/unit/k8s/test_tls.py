"""Whom we trust where the kubeconfig does not say it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from kubectl_vmredir.k8s.tls import trust_system
from tests.support.certificates import Authority


def names_trusted(context: ssl.SSLContext) -> list[str]:
    """Return the common names of the authorities that a context has loaded."""
    loaded = [x509.load_der_x509_certificate(der) for der in context.get_ca_certs(binary_form=True)]
    return [
        str(name.value)
        for certificate in loaded
        for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    ]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A file with one authority."""
    path = tmp_path / "bundle.pem"
    path.write_bytes(Authority("this system's").pem)
    return path


def test_where_openssl_looks_in_vain_the_systems_first_bundle_is_trusted(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    second = tmp_path / "second.pem"
    second.write_bytes(Authority("another").pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    trust_system(context, [tmp_path / "missing", bundle, second])

    assert names_trusted(context) == ["this system's"]


def test_what_openssl_knows_is_enough(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.pem"
    own.write_bytes(Authority("the user's").pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(own))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    trust_system(context, [bundle])

    assert names_trusted(context) == ["the user's"]
