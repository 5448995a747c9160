"""What users get wrong, and what is wrong around them: an error that says what to do."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from kubectl_vmredir.errors import ExitCode, VmRedirError
from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.kubeconfig import ConfigOptions, load_config
from kubectl_vmredir.kubevirt.dial import ApiDialer
from kubectl_vmredir.lab.api.pki import Authority
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.model import SLOT_COUNT, Boundary, VmiRef
from tests.support.commands import Cli, Done
from tests.support.link_listener import at_will

pytestmark = pytest.mark.asyncio(loop_scope="module")

STICK = "1209:0001:FLASH001"
DESK = VmiRef("demo", "desk")
NOBODY = 65534


def bind(*arguments: str) -> tuple[str, ...]:
    return "bind", "--virtual", "--foreground", *arguments


def assert_refused(done: Done, status: ExitCode, error: str, hint: str) -> None:
    assert done.status == status, done.err
    assert re.search(f"^error: .*{error}", done.err, re.MULTILINE), done.err
    assert re.search(hint, done.err), done.err
    assert "Traceback" not in done.err
    assert done.out == ""


async def test_unknown_device(cli: Cli) -> None:
    done = await cli(*bind("1209:ffff", "desk"))

    assert_refused(done, ExitCode.DEVICE, "no USB device 1209:ffff", "kubectl vmredir devices")


async def test_ambiguous_device_is_refused_with_a_selector_for_each(cli: Cli) -> None:
    done = await cli(*bind("1209:0001", "desk"))

    assert_refused(done, ExitCode.DEVICE, "means 2 devices", "FLASH001\n *1209:0001:FLASH002")


async def test_unknown_vmi_is_waited_for_and_said(cli: Cli) -> None:
    async with cli.start(*bind(STICK, "nosuch")) as running:
        await running.says("holding: waiting for VM demo/nosuch, which does not exist")
        running.signal(signal.SIGINT)
        done = await running.end()

    assert done.status == ExitCode.INTERRUPTED


async def test_vmi_without_client_passthrough(cli: Cli) -> None:
    done = await cli(*bind(STICK, "plain"))

    assert_refused(done, ExitCode.CLUSTER, "has no USB slots", "clientPassthrough")


async def test_vm_that_turns_out_to_lack_the_slot_ends_the_wait(cli: Cli, lab: Lab) -> None:
    async with cli.start(*bind(STICK, "late/nope")) as running:
        await running.says("waiting for VM demo/late, which does not exist")
        await lab.create_vm(VmiRef("demo", "late"), slots=("flash",))
        done = await running.end()

    assert_refused(done, ExitCode.USAGE, "VM demo/late has no slot 'nope'", "flash, usb1")


async def test_unknown_slot_is_refused_with_the_names_there_are(cli: Cli) -> None:
    done = await cli(*bind(STICK, "desk/nope"))

    assert_refused(done, ExitCode.USAGE, "no slot 'nope'", "flash, token, usb2, usb3")


async def test_user_without_the_right_to_redirect(cli: Cli) -> None:
    done = await cli(*bind("--context", "viewer", STICK, "desk"))

    assert_refused(done, ExitCode.CLUSTER, "'viewer' may not get", "ClusterRole edit")


async def test_user_without_any_right(cli: Cli) -> None:
    done = await cli("slots", "--context", "nobody")

    assert_refused(done, ExitCode.CLUSTER, "'nobody' may not list", "Role")


async def test_user_without_the_right_to_migrate(cli: Cli) -> None:
    done = await cli("migrate", "desk")

    assert_refused(done, ExitCode.CLUSTER, "'alice' may not", "kubevirt.io:migrate")


async def test_token_that_the_cluster_does_not_know(cli: Cli) -> None:
    done = await cli(*bind("--token", "expired", STICK, "desk"))

    assert_refused(done, ExitCode.CLUSTER, "does not accept the credentials", "Log in again")
    assert "expired" not in done.err, "a token was printed"


async def test_certificate_of_another_ca(cli: Cli, lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    other = tmp_path / "other-ca.pem"
    other.write_text(Authority(tmp_path / "pki", "other").pem)
    config = yaml.safe_load(lab.kubeconfig.read_text())
    config["clusters"][0]["cluster"].pop("certificate-authority-data", None)
    config["clusters"][0]["cluster"]["certificate-authority"] = str(other)
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))

    done = await cli("slots", "--kubeconfig", str(path))

    assert_refused(done, ExitCode.CLUSTER, "certificate", "certificate-authority")


@asynccontextmanager
async def redirecting_server(location: str) -> AsyncIterator[str]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = (
            f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        )
        writer.write(head.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_redirect_to_another_host_is_not_followed(cli: Cli) -> None:
    async with redirecting_server("https://elsewhere.example/x") as url:
        done = await cli("slots", "-s", url)

    assert_refused(done, ExitCode.CLUSTER, "elsewhere.example", "")


class Deaf:
    """A listener that hears nothing."""

    def link_received(self, data: memoryview) -> None: ...
    def link_consumed(self, offset: int) -> None: ...
    def link_writable(self, writable: bool) -> None: ...
    def link_pong(self, round_trip_s: float) -> None: ...
    def link_ended(self, boundary: Boundary, cause: VmRedirError) -> None: ...


async def test_all_four_slots_taken(cli: Cli, lab: Lab) -> None:
    async with KubeClient(load_config(ConfigOptions(kubeconfig=lab.kubeconfig), {})) as client:
        links = [await ApiDialer(client).dial(DESK, Deaf(), at_will) for _ in range(SLOT_COUNT)]

        done = await cli(*bind(STICK, "desk"))

        for link in links:
            await link.close()
    assert_refused(done, ExitCode.TAKEN, "all USB slots of VM demo/desk are in use", "Unbind")


async def test_api_server_gone_in_mid_stream(cli: Cli, lab: Lab) -> None:
    assert lab.api is not None
    async with cli.start(*bind(STICK, "desk")) as running:
        await running.says("connected")
        await lab.api.stop()
        await running.says("holding")
        await lab.api.start()
        await running.says("connected")
        running.signal(signal.SIGINT)
        done = await running.end()

    assert done.status == ExitCode.INTERRUPTED
    assert "Traceback" not in done.err


async def test_no_kubeconfig(cli: Cli, tmp_path: Path) -> None:
    done = await Cli(tmp_path, {})("slots")

    assert_refused(done, ExitCode.CLUSTER, "no kubeconfig", "--kubeconfig")


async def test_broken_kubeconfig(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("{{{")

    done = await Cli(tmp_path, {"KUBECONFIG": str(path)})("slots")

    assert_refused(done, ExitCode.CLUSTER, "broken kubeconfig .*not YAML", "kubectl config view")


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
async def test_kubeconfig_of_another_user(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(lab.kubeconfig.read_text())
    path.chmod(0o600)

    done = await Cli(tmp_path, {"KUBECONFIG": str(path)}, user=NOBODY)("slots")

    assert_refused(done, ExitCode.CLUSTER, f"cannot read .*{path.name}", "")


async def test_unreachable_server(cli: Cli) -> None:
    done = await cli("slots", "-s", "https://127.0.0.1:1")

    assert_refused(done, ExitCode.CLUSTER, "cannot reach https://127.0.0.1:1", "")


async def test_unknown_context_is_refused_with_those_there_are(cli: Cli) -> None:
    done = await cli("slots", "--context", "nope")

    assert_refused(done, ExitCode.CLUSTER, "no context 'nope'", "admin, alice")


async def test_no_lab_is_running(tmp_path: Path) -> None:
    done = await Cli(tmp_path, {})("slots", "--lab")

    assert_refused(done, ExitCode.FAILURE, "no lab is running", "lab up")


@pytest.mark.skipif(Path("/sys/bus/usb/devices").exists(), reason="this machine has USB")
async def test_devices_of_a_machine_without_usb_are_no_empty_list(tmp_path: Path) -> None:
    done = await Cli(tmp_path, {})("devices")

    assert_refused(done, ExitCode.DEVICE, "this machine has no USB", "modprobe")


async def test_unknown_command_is_a_usage_error(tmp_path: Path) -> None:
    done = await Cli(tmp_path, {})("nosuch")

    assert done.status == ExitCode.USAGE
    assert "No such command 'nosuch'" in done.err


async def test_dry_run_says_what_would_be_done_and_what_would_not(cli: Cli) -> None:
    done = await cli("bind", "--virtual", "--dry-run", STICK, "desk/token")
    assert (done.status, done.err) == (0, "")
    assert "slot token" in done.out

    done = await cli("bind", "--virtual", "--dry-run", "-o", "json", STICK, "desk/nope")
    assert done.status == ExitCode.USAGE
    assert json.loads(done.out)["trouble"]["kind"] == "SlotNotFound"

    done = await cli("bind", "--virtual", "--foreground", "-o", "json", STICK, "desk")
    assert_refused(done, ExitCode.USAGE, "--foreground stays", "")
