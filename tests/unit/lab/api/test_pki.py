from __future__ import annotations

import ssl
import stat
from pathlib import Path

from kubectl_vmredir.lab.api.pki import HANDLER_DNS, Pki


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    waiting = set(ends)
    while waiting:
        for end in tuple(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.discard(end)
    return ends


def test_keys_can_be_read_by_their_owner_only(tmp_path: Path) -> None:
    Pki(tmp_path / "pki")

    keys = list((tmp_path / "pki").glob("*.key"))
    assert len(keys) == 6
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700


def test_a_folder_keeps_its_certificates(tmp_path: Path) -> None:
    first = Pki(tmp_path)
    certificate = first.api_server.certificate.read_bytes()

    second = Pki(tmp_path)

    assert second.cluster.pem == first.cluster.pem
    assert second.api_server.certificate.read_bytes() == certificate


def test_the_api_server_is_trusted_and_knows_alice(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    context = ssl.create_default_context(cadata=pki.cluster.pem)
    context.load_cert_chain(pki.alice.certificate, pki.alice.key)

    _, server = shake_hands(pki.server_context(), context, "127.0.0.1")

    certificate = server.getpeercert()
    assert certificate is not None
    assert certificate["subject"] == ((("commonName", "alice"),),)


def test_a_client_without_a_certificate_is_welcome(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    context = ssl.create_default_context(cadata=pki.cluster.pem)

    _, server = shake_hands(pki.server_context(), context, "localhost")

    assert server.getpeercert() is None


def test_virt_api_and_virt_handler_know_each_other(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    handler = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=pki.kubevirt.pem)
    handler.verify_mode = ssl.CERT_REQUIRED
    handler.load_cert_chain(pki.handler.certificate, pki.handler.key)

    _, server = shake_hands(handler, pki.handler_context(), HANDLER_DNS)

    certificate = server.getpeercert()
    assert certificate is not None
    assert certificate["subject"] == ((("commonName", "kubevirt.io:system:client:virt-handler"),),)
