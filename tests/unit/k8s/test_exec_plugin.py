from __future__ import annotations

import asyncio
import base64
import json
import os
import select
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kubectl_vmredir.errors import KubeconfigError, LoginRequired
from kubectl_vmredir.k8s import exec_plugin
from kubectl_vmredir.k8s.exec_plugin import run_exec_plugin
from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, ExecPlugin

V1 = "client.authentication.k8s.io/v1"
CONFIG = ClusterConfig("https://api:6443")


def plugin(*command: str, **changes: Any) -> ExecPlugin:  # noqa: ANN401
    fields = {
        "command": command[0],
        "args": command[1:],
        "env": {},
        "api_version": V1,
        "provide_cluster_info": False,
        "interactive": False,
        "install_hint": "",
    }
    return ExecPlugin(**{**fields, **changes})


def shell(script: str, **changes: Any) -> ExecPlugin:  # noqa: ANN401
    return plugin("sh", "-c", script, **changes)


def printing(status: Mapping[str, Any], version: str = V1) -> ExecPlugin:
    credential = {"apiVersion": version, "kind": "ExecCredential", "status": status}
    return plugin("echo", json.dumps(credential))


async def test_token_and_expiry_are_taken() -> None:
    found = await run_exec_plugin(
        printing({"token": "t0ken", "expirationTimestamp": "2030-01-02T03:04:05Z"}), CONFIG
    )

    assert found.token == "t0ken"
    assert found.expires == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert found.certificate is None


async def test_certificate_and_token_are_taken_together() -> None:
    found = await run_exec_plugin(
        printing({"token": "t", "clientCertificateData": "CERT", "clientKeyData": "KEY"}), CONFIG
    )

    assert found.token == "t"
    assert found.certificate is not None
    assert (found.certificate.certificate, found.certificate.key) == (b"CERT", b"KEY")
    assert found.expires is None


async def test_plugin_is_told_the_cluster_when_it_wants(tmp_path: Path) -> None:
    seen = tmp_path / "info"
    config = ClusterConfig(
        "https://api:6443",
        ca=b"PEM",
        tls_server_name="inner",
        proxy_url="http://proxy",
        exec_config={"audience": "x"},
    )
    script = f'printf %s "$KUBERNETES_EXEC_INFO" > {seen}; exit 1'

    for wants in (True, False):
        with pytest.raises(LoginRequired):
            await run_exec_plugin(shell(script, provide_cluster_info=wants), config)
        info = json.loads(seen.read_text())
        assert (info["apiVersion"], info["kind"]) == (V1, "ExecCredential")
        assert info["spec"]["interactive"] is False
        assert info["spec"].get("cluster") == (
            {
                "server": "https://api:6443",
                "certificate-authority-data": base64.b64encode(b"PEM").decode(),
                "tls-server-name": "inner",
                "proxy-url": "http://proxy",
                "config": {"audience": "x"},
            }
            if wants
            else None
        )


async def test_environment_of_the_kubeconfig_is_added_to_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OURS", "a")

    with pytest.raises(LoginRequired, match=r"failed \(1\): a b"):
        await run_exec_plugin(
            shell('echo "$OURS $THEIRS" >&2; exit 1', env={"THEIRS": "b"}), CONFIG
        )


async def test_plugin_has_no_terminal() -> None:
    script = "if read line; then echo read; fi; if : < /dev/tty; then echo tty; fi; exit 3"

    with pytest.raises(LoginRequired) as caught:
        await run_exec_plugin(shell(f"({script}) 2>/dev/null >&2 || exit 3"), CONFIG)

    assert "failed (3)" in str(caught.value)


async def test_plugin_that_needs_a_terminal_is_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    with pytest.raises(LoginRequired, match="needs a terminal") as caught:
        await run_exec_plugin(plugin("touch", str(ran), interactive=True), CONFIG)

    assert not ran.exists()
    assert caught.value.hint is not None
    assert caught.value.hint.endswith(": touch ...")


async def test_failure_shows_the_last_line_of_complaint_and_the_command() -> None:
    with pytest.raises(LoginRequired, match=r"failed \(2\): run login first$") as caught:
        await run_exec_plugin(shell("echo noise >&2; echo run login first >&2; exit 2"), CONFIG)

    assert caught.value.hint == "Try it by hand, as it stands in the kubeconfig: sh -c ..."


async def test_variables_that_a_failing_plugin_may_miss_are_named() -> None:
    environ = {"PATH": os.environ["PATH"], "B": ""}
    config = replace(CONFIG, environ=environ, expected=["A", "B", *"CDEFGHIJ"])

    with pytest.raises(LoginRequired) as caught:
        await run_exec_plugin(shell("exit 1"), config)

    assert caught.value.hint is not None
    assert "the device was bound: A, C, D, E, F, G, H, I, .... Run" in caught.value.hint


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (("get-token", "--login", "spn", "-l", "spn"), "... --login ... -l ..."),
        (("--client-secret", "s3cret"), "--client-secret ..."),
        (("--client-secret=s3cret", "--x=", "-p=s3cret"), "--client-secret=... --x=... -p=..."),
        (("-ps3cret", "--s3cret_", "---", "-", "", "s3cret"), "... ... ... ... ... ..."),
    ],
)
async def test_arguments_of_a_plugin_are_not_shown_as_they_may_be_secrets(
    args: tuple[str, ...], shown: str
) -> None:
    with pytest.raises(LoginRequired) as caught:
        await run_exec_plugin(plugin("./log in", *args, interactive=True), CONFIG)

    assert str(caught.value) == f"the credential plugin './log in' {shown} needs a terminal"
    assert "s3cret" not in (caught.value.hint or "")


async def test_missing_command_gives_the_install_hint() -> None:
    with pytest.raises(KubeconfigError, match=r"cannot run .*: No such file") as caught:
        await run_exec_plugin(plugin("/no/such/login", install_hint="apt install login"), CONFIG)

    assert caught.value.hint == "apt install login"


@pytest.mark.parametrize(
    "output",
    [
        "",
        "s3cret",
        "[]",
        json.dumps({"apiVersion": V1, "kind": "Other", "status": {"token": "s3cret"}}),
        json.dumps({"apiVersion": "v9", "kind": "ExecCredential", "status": {"token": "s3cret"}}),
        json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": {}}),
        json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": {"token": 1}}),
        json.dumps(
            {"apiVersion": V1, "kind": "ExecCredential", "status": {"clientKeyData": "s3cret"}}
        ),
    ],
)
async def test_output_that_is_no_credential_is_refused_and_not_shown(output: str) -> None:
    with pytest.raises(KubeconfigError, match="printed no ExecCredential") as caught:
        await run_exec_plugin(plugin("echo", output), CONFIG)

    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_version_that_we_do_not_speak_is_refused() -> None:
    with pytest.raises(KubeconfigError, match="speaks 'v7', which we do not"):
        await run_exec_plugin(plugin("true", api_version="v7"), CONFIG)


async def test_plugin_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $$ $! > {pids}; wait"

    with pytest.raises(LoginRequired, match="did not finish"):
        await run_exec_plugin(shell(script), CONFIG, timeout_s=0.3)

    await asyncio.to_thread(assert_all_end, pids)


async def test_cancelled_plugin_is_killed(tmp_path: Path) -> None:
    started, pids = tmp_path / "fifo", tmp_path / "pids"
    os.mkfifo(started)
    script = f"sleep 60 & echo $$ $! > {pids}; echo > {started}; wait"

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(run_exec_plugin(shell(script), CONFIG))
        await asyncio.to_thread(started.read_text)
        task.cancel()

    await asyncio.to_thread(assert_all_end, pids)


def assert_all_end(pids: Path) -> None:
    for pid in map(int, pids.read_text().split()):
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ended, _, _ = select.select([process], [], [], 5)
        os.close(process)
        assert ended


async def test_flood_of_output_is_bounded() -> None:
    code = "import sys; sys.stdout.write('x' * 5_000_000); sys.stderr.write('y' * 5_000_000)"

    with pytest.raises(KubeconfigError, match="printed no ExecCredential"):
        await run_exec_plugin(plugin(sys.executable, "-c", code), CONFIG)


def test_secrets_are_in_no_repr() -> None:
    found = exec_plugin.ExecCredential("s3cret", None, None)

    assert "s3cret" not in repr(found)
