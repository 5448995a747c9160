from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kubectl_vmredir.errors import KubeconfigError, LoginRequired
from kubectl_vmredir.k8s.credentials import Credential, credential_source
from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, ExecPlugin, UserConfig
from kubectl_vmredir.k8s.tls import CertificatePair

V1 = "client.authentication.k8s.io/v1"


async def authorization(user: UserConfig) -> str:
    return (
        await credential_source(ClusterConfig("https://api", user=user)).current()
    ).authorization


def counting_plugin(folder: Path, *, lifetime_s: float | None = None) -> ExecPlugin:
    """Return a plugin whose tokens are t1, t2, ..., one for each run."""
    expiry = ""
    if lifetime_s is not None:
        expires = datetime.now(UTC) + timedelta(seconds=lifetime_s)
        expiry = f', "expirationTimestamp": "{expires.isoformat()}"'
    script = (
        f"echo >> {folder}/runs; n=$(wc -l < {folder}/runs); "
        f'echo \'{{"apiVersion": "{V1}", "kind": "ExecCredential", '
        f'"status": {{"token": "t\'$n\'"{expiry}}}}}\''
    )
    return ExecPlugin("sh", ("-c", script), {}, V1, False, False, "")


async def test_token_of_the_kubeconfig() -> None:
    assert await authorization(UserConfig(token="t0ken")) == "Bearer t0ken"


async def test_nobody_sends_nothing() -> None:
    assert await authorization(UserConfig()) == ""


async def test_user_name_and_password() -> None:
    expected = base64.b64encode(b"alice:p:w").decode()

    assert await authorization(UserConfig(username="alice", password="p:w")) == f"Basic {expected}"


async def test_token_goes_before_password_and_plugin(tmp_path: Path) -> None:
    user = UserConfig(token="t", username="u", password="p", exec=counting_plugin(tmp_path))

    assert await authorization(user) == "Bearer t"
    assert not (tmp_path / "runs").exists()


async def test_token_file_is_read_each_time_and_goes_before_the_token(tmp_path: Path) -> None:
    path = tmp_path / "token"
    source = credential_source(
        ClusterConfig("https://api", user=UserConfig(token="old", token_file=path))
    )

    path.write_text("first\n")
    assert (await source.current()).authorization == "Bearer first"
    path.write_text("second")
    assert (await source.current()).authorization == "Bearer second"


async def test_missing_token_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match=rf"cannot read tokenFile {tmp_path}/none"):
        await authorization(UserConfig(token_file=tmp_path / "none"))


async def test_certificate_goes_with_the_token(tmp_path: Path) -> None:
    key_file = tmp_path / "key.pem"
    key_file.write_bytes(b"KEY")
    user = UserConfig(token="t", certificate=b"CERT", key_file=key_file)

    found = await credential_source(ClusterConfig("https://api", user=user)).current()

    assert found.certificate == CertificatePair(b"CERT", b"KEY")
    assert found.authorization == "Bearer t"


async def test_plugin_runs_once_for_all_that_wait(tmp_path: Path) -> None:
    user = UserConfig(exec=counting_plugin(tmp_path))
    source = credential_source(ClusterConfig("https://api", user=user))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(source.current()) for _ in range(5)]

    assert {task.result().authorization for task in tasks} == {"Bearer t1"}


@pytest.mark.parametrize(("lifetime_s", "second"), [(3600, "Bearer t1"), (5, "Bearer t2")])
async def test_plugin_runs_again_when_its_credential_is_about_to_expire(
    tmp_path: Path, lifetime_s: float, second: str
) -> None:
    user = UserConfig(exec=counting_plugin(tmp_path, lifetime_s=lifetime_s))
    source = credential_source(ClusterConfig("https://api", user=user))

    assert (await source.current()).authorization == "Bearer t1"
    assert (await source.current()).authorization == second


async def test_refused_credential_is_not_used_again(tmp_path: Path) -> None:
    user = UserConfig(exec=counting_plugin(tmp_path))
    source = credential_source(ClusterConfig("https://api", user=user))

    first = await source.current()
    assert source.reject(first)
    second = await source.current()
    assert source.reject(first)  # late: somebody else has renewed it meanwhile

    assert second.authorization == "Bearer t2"
    assert (await source.current()).authorization == "Bearer t2"


async def test_refused_token_of_the_kubeconfig_is_final() -> None:
    source = credential_source(ClusterConfig("https://api", user=UserConfig(token="t")))

    assert not source.reject(await source.current())


async def test_certificate_of_the_kubeconfig_goes_with_the_token_of_a_plugin(
    tmp_path: Path,
) -> None:
    user = UserConfig(exec=counting_plugin(tmp_path), certificate=b"C", key=b"K")

    found = await credential_source(ClusterConfig("https://api", user=user)).current()

    assert found == Credential("Bearer t1", CertificatePair(b"C", b"K"))


def jwt(expires_in_s: float) -> str:
    def part(content: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    claims = {"exp": int(time.time() + expires_in_s)}
    padding = 1  # the package takes no payload whose base64 needs three
    while len(part(claims)) % 4 == 1:
        claims["padding"] = padding
        padding *= 10
    return f"{part({'alg': 'none'})}.{part(claims)}.c2ln"


async def test_legacy_oidc_token_is_taken_while_it_is_good() -> None:
    token = jwt(3600)
    user = UserConfig(auth_provider={"name": "oidc", "config": {"id-token": token}})

    assert await authorization(user) == f"Bearer {token}"


@pytest.mark.parametrize(
    "provider",
    [
        {"name": "oidc", "config": {"id-token": "nonsense"}},
        {"name": "oidc", "config": {}},
        {"name": "azure", "config": {"access-token": "x"}},
        {"name": "oidc", "config": {"id-token": jwt(-60)}},
        {
            "name": "oidc",
            "config": {"id-token": jwt(-60), "idp-issuer-url": "https://127.0.0.1:1"},
        },
    ],
)
async def test_legacy_provider_that_gives_no_token_asks_for_a_login(
    provider: dict[str, object],
) -> None:
    user = UserConfig(name="alice", auth_provider=provider)

    with pytest.raises(LoginRequired, match="auth-provider of user 'alice'"):
        await authorization(user)


def test_only_a_legacy_provider_loads_the_kubernetes_package() -> None:
    code = """
import asyncio, sys
from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.credentials import credential_source
from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, UserConfig
import kubectl_vmredir.kubevirt.cluster, kubectl_vmredir.kubevirt.dial
config = ClusterConfig("https://api", user=UserConfig(token="t"))
asyncio.run(credential_source(config).current())
print("kubernetes" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "False"


def test_secrets_are_in_no_repr() -> None:
    pair = CertificatePair(b"s3cret", b"s3cret")

    assert "s3cret" not in repr(Credential("Bearer s3cret", pair))
