"""What the commands print, on the lab."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE

import pytest
import yaml

from kubectl_vmredir import __version__
from kubectl_vmredir.errors import ExitCode
from kubectl_vmredir.lab import objects
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.objects import Collection
from kubectl_vmredir.lab.timeline import Step
from kubectl_vmredir.model import VmiRef
from tests.support.commands import LIMIT_S, Cli

pytestmark = pytest.mark.asyncio(loop_scope="module")

DESK = VmiRef("demo", "desk")


async def test_version_in_each_form(cli: Cli) -> None:
    plain, as_json = await cli.each("version", "version -o json")

    assert plain.out == f"kubectl-vmredir {__version__}\n"
    assert json.loads(as_json.out)["version"] == __version__


async def test_devices_in_each_form(cli: Cli) -> None:
    plain, wide, as_json, names = await cli.each(
        "devices --virtual",
        "devices --virtual -o wide",
        "devices --virtual -o json",
        "devices --virtual -o name",
    )

    assert plain.rows[0] == ["DEVICE", "KIND", "NAME", "BUS-DEV", "PORT", "ACCESS", "USED-BY"]
    assert [row[:2] for row in plain.rows[1:4]] == [
        ["1209:0001:FLASH001", "storage"],
        ["1209:0001:FLASH002", "storage"],
        ["1209:0002:KEYS001", "keyboard"],
    ]
    assert plain.rows[1][-4:] == ["100-1", "port:100-1", "yes", "<none>"]
    assert wide.rows[0][-4:] == ["SPEED", "SERIAL", "NODE", "DRIVERS"]
    assert wide.rows[3][-4:] == ["full", "KEYS001", "virtual", "<none>"]
    assert names.rows == [[row[0]] for row in plain.rows[1:]]
    listed = json.loads(as_json.out)
    assert (listed["kind"], len(listed["items"])) == ("LocalDeviceList", len(names.rows))
    assert listed["items"][0]["serial"] == "FLASH001"
    assert listed["items"][0]["kind"] == "storage"
    assert listed["items"][0]["use"]["openable"] is True
    assert {done.err for done in (plain, wide, as_json, names)} == {""}


async def test_slots_in_each_form(cli: Cli) -> None:
    plain, wide, bare, as_json, as_yaml, names = await cli.each(
        "slots", "slots -o wide", "slots --no-headers", "slots -o json", "slots -o yaml",
        "slots -o name",
    )  # fmt: skip

    assert plain.rows[0] == ["NAMESPACE", "VM", "SLOT", "DEVICE", "PHASE", "NODE", "MIGRATABLE"]
    assert plain.rows[1:] == [
        ["demo", "desk", slot, "<none>", "Running", "node1", "yes"]
        for slot in ("flash", "token", "usb2", "usb3")
    ]
    assert wide.rows[0][-1] == "MIGRATING-TO"
    assert wide.rows[1][-1] == "<none>"
    assert bare.rows == plain.rows[1:]
    assert names.out == "desk/flash\ndesk/token\ndesk/usb2\ndesk/usb3\n"
    listed = json.loads(as_json.out)
    assert listed["apiVersion"] == "vmredir.io/v1alpha1"
    assert listed["items"][0] == {
        "vmi": {"namespace": "demo", "name": "desk"},
        "slot": "flash",
        "phase": "Running",
        "node": "node1",
        "migratable": True,
        "migrating_to": "",
        "redirection": None,
        "device": "",
    }
    assert yaml.safe_load(as_yaml.out) == listed


async def test_slots_of_one_vm_of_a_namespace_of_all_and_by_label(cli: Cli, lab: Lab) -> None:
    other = VmiRef("other", "shelf")
    await lab.create_vm(other)
    await lab.wait_running(other)
    label = {"metadata": {"labels": {"app": "cad"}}}
    await lab.client.patch(f"{Collection.VMIS.of('other')}/shelf", label)

    named, there, everywhere, mine, labeled, none = await cli.each(
        "slots vmi/desk -o name",
        "-n other slots --context admin -o name",
        "slots -A --context=admin -o name",
        "slots -A -o name",
        "slots -A --context admin -l app=cad -o name",
        "slots -l app=cad",
    )

    desk = [["desk/flash"], ["desk/token"], ["desk/usb2"], ["desk/usb3"]]
    shelf = [["shelf/usb0"], ["shelf/usb1"], ["shelf/usb2"], ["shelf/usb3"]]
    assert named.rows == desk
    assert there.rows == shelf
    assert everywhere.rows == desk + shelf
    assert mine.rows == desk
    assert "warning: " in mine.err
    assert "showing namespace demo only" in mine.err
    assert labeled.rows == shelf
    assert (none.out, none.status) == ("", 0)
    assert "No VM with USB slots found" in none.err
    await lab.delete_vm(other)


async def test_migrate_prints_the_migration_that_it_asked_for(cli: Cli, lab: Lab) -> None:
    created = await cli("migrate", "vm/desk", "--context", "admin")
    name = created.rows[0][0].partition("/")[2]
    assert created.out == f"virtualmachineinstancemigration.kubevirt.io/{name} created\n"
    await lab.until(
        lambda: objects.is_final(lab.cache.get(Collection.VMIMS, "demo", name) or {}), "it is over"
    )

    again = await cli("migrate", "desk", "--context", "admin", "-o", "name")

    name = again.out.strip().partition("/")[2]
    assert again.out == f"virtualmachineinstancemigration.kubevirt.io/{name}\n"
    vmim = lab.cache.get(Collection.VMIMS, "demo", name)
    assert vmim is not None
    assert objects.spec(vmim)["vmiName"] == "desk"
    await lab.until(
        lambda: objects.is_final(lab.cache.get(Collection.VMIMS, "demo", name) or {}), "it is over"
    )


async def test_watching_slots_shows_a_vm_move(cli: Cli, lab: Lab) -> None:
    ref = VmiRef("demo", "moving")
    await lab.create_vm(ref, slots=("flash",))
    vmi = await lab.wait_running(ref)
    source = objects.status(vmi)["nodeName"]
    async with (
        cli.start("slots", "moving", "-w", "-o", "wide") as table,
        cli.start("slots", "moving", "-w", "-o", "json") as lines,
    ):
        before = [(await table.prints()).split() for _ in range(5)]
        for _ in range(4):
            assert json.loads(await lines.prints())["node"] == source
        move = await lab.migrate(ref, Step.HANDED_OFF)
        moving = [(await table.prints()).split() for _ in range(4)]
        await move.release()
        assert await move.finished()
        moved = [(await table.prints()).split() for _ in range(4)]
        await lab.delete_vm(ref)
        while (row := (await table.prints()).split())[4] != "Deleted":
            assert row[5] != source
        for command in (table, lines):
            command.signal(signal.SIGINT)
        ends = [await command.end() for command in (table, lines)]

    assert before[0][-1] == "MIGRATING-TO"
    assert before[1] == ["demo", "moving", "flash", "<none>", "Running", source, "yes", "<none>"]
    target = moving[0][-1]
    assert target not in ("<none>", source)
    assert [row[2] for row in moving] == ["flash", "usb1", "usb2", "usb3"]
    assert moved[0][5] == target
    assert [end.status for end in ends] == [ExitCode.INTERRUPTED] * 2
    seen = [json.loads(line) for line in ends[1].out.splitlines()]
    assert {(row["node"], row["phase"]) for row in seen} >= {
        (source, "Running"),
        (target, "Running"),
        ("", "Deleted"),
    }
    assert "Traceback" not in ends[0].err


async def test_watch_says_when_there_is_no_news_and_goes_on(cli: Cli, lab: Lab) -> None:
    assert lab.api is not None
    async with cli.start("slots", "-w", "-o", "name") as running:
        for _ in range(4):
            await running.prints()
        await lab.api.stop()
        await running.says("warning: no news of VMs: ")
        await lab.api.start()

        move = await lab.migrate(DESK)

        assert await running.prints() == "desk/flash\n"
        assert await move.finished()


async def test_watch_ends_quietly_when_nobody_reads_it_any_more(cli: Cli, lab: Lab) -> None:
    line = f"set -o pipefail; {sys.executable} -m kubectl_vmredir slots -w -o name | head -n 1"
    pipeline = await asyncio.create_subprocess_exec(
        "bash", "-c", line, stdout=PIPE, stderr=PIPE, env=cli.variables
    )
    assert pipeline.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        assert await pipeline.stdout.readline() == b"desk/flash\n"
        move = await lab.migrate(DESK)
        _, err = await pipeline.communicate()

    assert (pipeline.returncode, err) == (ExitCode.OK, b"")
    assert await move.finished()


async def test_a_vm_that_is_named_is_not_searched_for_as_well(cli: Cli) -> None:
    done = await cli("slots", "desk", "-A")

    assert done.status == ExitCode.USAGE
    assert done.err.startswith("error: a VM is named")
