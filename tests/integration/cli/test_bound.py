"""What is bound stays bound: bind, status and unbind through an agent, on the lab."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE

import pytest
import yaml

from kubectl_vmredir.errors import ExitCode
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.timeline import Step
from kubectl_vmredir.model import VmiRef
from tests.support.commands import LIMIT_S, Cli, Done
from tests.support.programs import a_desk
from tests.support.terminals import CTRL_C, on_a_terminal

pytestmark = pytest.mark.asyncio(loop_scope="module")

STICK = "1209:0001:FLASH001"
OTHER_STICK = "1209:0001:FLASH002"
KEYBOARD = "1209:0002:KEYS001"


async def bound(user: Cli, device: str, target: str, *more: str) -> None:
    """Bind, and be connected."""
    done = await user("bind", "--virtual", device, target, *more)
    assert done.status == ExitCode.OK, done.err


async def states(user: Cli) -> list[tuple[str, str]]:
    """Return what status says: where the devices are, and their states."""
    items = json.loads((await user("status", "-o", "json")).out)["items"]
    return [
        (f"{item['status']['vmi']['name']}/{item['status']['slot']}", item["status"]["state"])
        for item in items
    ]


async def become(user: Cli, *wanted: tuple[str, str]) -> None:
    """Wait until status says so."""
    async with asyncio.timeout(LIMIT_S), user.start("status", "-w", "-o", "name") as watch:
        while await states(user) != list(wanted):
            assert await watch.prints()


# -- bind -------------------------------------------------------------------------------------


async def test_bind_returns_when_the_device_is_in_the_vm(user: Cli, lab: Lab) -> None:
    async with a_desk(lab, "bind") as desk:
        done = await user("bind", "--virtual", STICK, f"{desk.ref.name}/b")

        assert (done.status, done.err) == (ExitCode.OK, "")
        assert done.out == f"r1: {STICK} is plugged into VM {desk.ref}, slot b\n"
        assert await states(user) == [(f"{desk.ref.name}/b", "connected")]
        slots = await user("slots", "--virtual", desk.ref.name)
        assert [row[3] for row in slots.rows] == ["DEVICE", "<none>", STICK, "<none>", "<none>"]


async def test_result_of_a_bind_in_each_form(user: Cli, lab: Lab) -> None:
    async with a_desk(lab, "forms") as desk:
        named = await user("bind", "--virtual", STICK, desk.ref.name, "-o", "name")
        as_json = await user("bind", "--virtual", KEYBOARD, desk.ref.name, "-o", "json")

        assert named.out == "r1\n"
        told = json.loads(as_json.out)
        assert (told["kind"], told["status"]["state"]) == ("Redirection", "connected")


async def test_bind_on_a_terminal_tells_what_it_does(user: Cli, lab: Lab) -> None:
    async with (
        a_desk(lab, "told") as desk,
        on_a_terminal(user, "bind", "--virtual", STICK, desk.ref.name) as terminal,
    ):
        await terminal.says("claiming the device")
        await terminal.says("dialing the VM")
        await terminal.says("is plugged into")

        assert await terminal.end() == ExitCode.OK


async def test_device_goes_into_the_vm_after_the_terminal_is_gone(user: Cli, lab: Lab) -> None:
    ref = VmiRef("demo", "later")
    async with on_a_terminal(user, "bind", "--virtual", STICK, "later/flash") as terminal:
        await terminal.says("does not exist")
        terminal.hang_up()
        await terminal.end()
    before = await states(user)

    await lab.create_vm(ref, slots=("flash",))
    await lab.wait_running(ref)

    assert before == [("later/flash", "holding")]
    await become(user, ("later/flash", "connected"))
    await user("unbind", "--all")
    await lab.delete_vm(ref)


async def test_bind_that_is_not_done_in_time_stays_wanted(user: Cli) -> None:
    done = await user("bind", "--virtual", STICK, "nosuch", "--timeout", "1s")

    assert done.status == ExitCode.FAILURE
    assert "not connected after 1 s; its state is holding: waiting for VM demo/nosuch" in done.err
    assert "kubectl vmredir unbind r1" in done.err
    assert await states(user) == [("nosuch/", "holding")]


@pytest.mark.parametrize("flag", ["--no-wait", "--wait=false"])
async def test_bind_that_waits_for_nothing_returns_when_it_is_wanted(user: Cli, flag: str) -> None:
    done = await user("bind", "--virtual", STICK, "nosuch", flag)

    assert done.status == ExitCode.OK
    assert done.out.startswith(f"r1: {STICK} is wanted (")
    assert [where for where, _ in await states(user)] == ["nosuch/"]


async def test_ctrl_c_ends_the_waiting_and_not_the_wish(user: Cli) -> None:
    async with on_a_terminal(user, "bind", "--virtual", STICK, "nosuch") as terminal:
        await terminal.says("does not exist")

        terminal.press(CTRL_C)

        await terminal.says("kubectl vmredir unbind r1")
        assert await terminal.end() == ExitCode.INTERRUPTED
    assert await states(user) == [("nosuch/", "holding")]


async def test_bind_that_a_person_must_act_for_says_why_and_stays_wanted(user: Cli) -> None:
    request = ("bind", "--virtual", "--context", "viewer", STICK, "desk")

    first, again = await user(*request), await user(*request)

    for done in (first, again):
        assert (done.status, done.out) == (ExitCode.CLUSTER, "")
        assert "'viewer' may not get" in done.err
        assert "kubectl vmredir unbind r1" in done.err
    assert await states(user) == [("desk/flash", "blocked")]


async def test_dry_run_knows_what_the_agent_keeps_up(user: Cli, lab: Lab) -> None:
    dry = ("bind", "--virtual", "--dry-run", STICK)
    free = await user(*dry, "desk")
    no_agent = await user("agent", "status")
    async with a_desk(lab, "dry") as desk:
        await bound(user, STICK, desk.ref.name)

        taken = await user(*dry, "desk")

    assert free.status == ExitCode.OK
    assert no_agent.err == "error: no agent is running\n"
    assert taken.status == ExitCode.TAKEN
    assert "is held by slot 'a'" in taken.err


# -- crashes ----------------------------------------------------------------------------------


async def test_next_command_brings_back_what_a_killed_agent_kept_up(user: Cli, lab: Lab) -> None:
    async with a_desk(lab, "killed") as desk:
        await bound(user, KEYBOARD, desk.ref.name)
        await desk.streams("0 taken")
        agent = json.loads((await user("agent", "status", "-o", "json")).out)["pid"]

        os.kill(agent, signal.SIGKILL)
        await desk.streams("0 taken", "0 free")

        await user("status")
        await desk.streams("0 taken", "0 free", "0 taken")
        await become(user, (f"{desk.ref.name}/a", "connected"))
        await desk.has("KEYS001")
        replugs = [line for line in desk.traces.kernel if line.endswith("USB disconnect")]
        assert len(replugs) == 1


async def test_nothing_is_started_only_to_say_that_nothing_is_bound(user: Cli) -> None:
    for command in ("status", "events"):
        done = await user(command)
        assert (done.status, done.out) == (ExitCode.OK, "")
    listed = await user("status", "-o", "json")
    unbound = await user("unbind", "--all")

    assert json.loads(listed.out)["items"] == []
    assert (unbound.status, unbound.err) == (ExitCode.OK, "No redirections.\n")
    assert (await user("agent", "status")).status == ExitCode.FAILURE


# -- targets ----------------------------------------------------------------------------------


def refused(done: Done, *words: str) -> None:
    assert (done.status, done.out) == (ExitCode.USAGE, ""), done
    for word in words:
        assert word in done.err


async def test_redirections_are_named_in_all_ways_that_status_shows(user: Cli, lab: Lab) -> None:
    async with a_desk(lab, "named") as desk:
        name = desk.ref.name
        await bound(user, STICK, name)
        await bound(user, KEYBOARD, "desk")
        targets = (
            "r1", f"{name}/a", name, f"vmi/{name}/a", STICK, "1209:0001", "100-1", "port:100-1",
        )  # fmt: skip

        shown = await user.each(*(f"status -o name {target}" for target in targets))
        done = await user("unbind", f"{name}/a")

        assert {target: each.out for target, each in zip(targets, shown, strict=True)} == (
            dict.fromkeys(targets, "r1\n")
        )
        assert done.out == f"r1 unbound: {STICK}, VM {desk.ref}, slot a\n"


async def test_target_that_means_nothing_or_too_much_is_refused(user: Cli, lab: Lab) -> None:
    async with a_desk(lab, "meant") as desk:
        await bound(user, STICK, desk.ref.name)
        await bound(user, OTHER_STICK, desk.ref.name)

        unknown, ambiguous, none, both, narrowed = await user.each(
            "unbind nosuch", "unbind 1209:0001", "unbind", "unbind r1 --all",
            "unbind r1 --context other",
        )  # fmt: skip

        refused(unknown, "'nosuch'", f"r1: {STICK}", f"r2: {OTHER_STICK}")
        refused(ambiguous, "means 2 redirections", f"r1: {STICK}", f"r2: {OTHER_STICK}")
        refused(none, "either a TARGET or --all")
        refused(both, "either a TARGET or --all")
        refused(narrowed, "'r1'", "No redirections.")
        two = await user("status", "1209:0001", "-o", "name")
        assert two.out == "r1\nr2\n"


async def test_same_id_in_two_contexts_is_told_apart_by_the_context(user: Cli, lab: Lab) -> None:
    async with a_desk(lab, "contexts") as desk:
        await bound(user, STICK, desk.ref.name)
        await bound(user, OTHER_STICK, f"{desk.ref.name}/b", "--context", "admin")

        ambiguous = await user("unbind", "r1")
        done = await user("unbind", "r1", "--context", "admin")

        refused(ambiguous, "--context", "(context alice)", "(context admin)")
        assert OTHER_STICK in done.out
        assert await states(user) == [(f"{desk.ref.name}/a", "connected")]


async def test_what_redirections_have_not_in_common_is_not_asked_for(user: Cli, lab: Lab) -> None:
    async with a_desk(lab, "narrow") as desk:
        await bound(user, STICK, desk.ref.name)

        refused(await user("status", "--cluster", "x"), "cannot be narrowed by --cluster")


# -- unbind -----------------------------------------------------------------------------------


async def test_all_that_is_bound_is_unbound_at_once(user: Cli, lab: Lab) -> None:
    async with a_desk(lab, "all") as desk:
        await bound(user, STICK, desk.ref.name)
        await bound(user, KEYBOARD, desk.ref.name)

        done = await user("unbind", "--all")

        assert sorted(row[0] for row in done.rows) == ["r1", "r2"]
        assert await states(user) == []


async def test_unbind_waits_for_a_migration_and_says_so(user: Cli, lab: Lab) -> None:
    async with a_desk(lab, "moving") as desk:
        await bound(user, STICK, desk.ref.name)
        move = await lab.migrate(desk.ref, Step.STARTED)
        await move.held(Step.STARTED)
        await become(user, (f"{desk.ref.name}/a", "migrating"))

        late = await user("unbind", "r1", "--timeout", "1s")
        async with on_a_terminal(user, "unbind", "r1") as terminal:
            await terminal.says("waiting for the migration")
            await desk.streams("0 taken")
            await move.release()
            await terminal.says("r1 unbound")
            assert await terminal.end() == ExitCode.OK

        assert late.status == ExitCode.FAILURE
        assert "not unbound after 1 s: r1: unbind: waiting for the migration" in late.err
        assert "as soon as that harms nobody" in late.err
        assert await move.finished()


async def test_what_is_bound_can_be_unbound_when_its_context_is_gone(user: Cli, lab: Lab) -> None:
    async with a_desk(lab, "gone") as desk:
        await bound(user, STICK, desk.ref.name)
        await user("agent", "stop")
        path = user.home / "kubeconfig"
        config = yaml.safe_load(path.read_text())
        contexts = [context for context in config["contexts"] if context["name"] != "alice"]
        path.write_text(yaml.safe_dump({**config, "contexts": contexts}))

        await become(user, (f"{desk.ref.name}/a", "blocked"))
        shown = await user("status")
        paused = await user("pause", "r1")
        unbound = await user("unbind", "r1")

        assert shown.rows[1][:5] == ["r1", STICK, f"{desk.ref.name}/a", "blocked", "alice"]
        assert "alice" in shown.err
        assert (paused.status, paused.out) == (ExitCode.CLUSTER, "")
        assert (unbound.status, unbound.rows[0][:2]) == (ExitCode.OK, ["r1", "unbound:"])
        assert await states(user) == []


async def test_what_is_bound_can_be_unbound_when_the_cluster_is_down(user: Cli, lab: Lab) -> None:
    assert lab.api is not None
    async with a_desk(lab, "down") as desk:
        await bound(user, STICK, desk.ref.name)
        await lab.api.stop()
        try:
            done = await user("unbind", desk.ref.name)
        finally:
            await lab.api.start()

        assert (done.status, done.rows[0][:2]) == (ExitCode.OK, ["r1", "unbound:"])
        assert await states(user) == []


# -- pause, resume, reconnect -----------------------------------------------------------------


async def test_device_that_is_paused_is_here_until_it_is_resumed(user: Cli, lab: Lab) -> None:
    async with a_desk(lab, "paused") as desk:
        where = f"{desk.ref.name}/a"
        await bound(user, STICK, desk.ref.name)

        paused = await user("pause", where)
        await desk.streams("0 taken", "0 free")
        between = await states(user)
        resumed = await user("resume", STICK)
        await become(user, (where, "connected"))

        assert paused.out.startswith("r1 paused: ")
        assert between == [(where, "paused")]
        assert resumed.out.startswith("r1 resumed: ")


async def test_reconnecting_dials_anew(user: Cli, lab: Lab) -> None:
    async with a_desk(lab, "again") as desk:
        await bound(user, STICK, desk.ref.name)

        done = await user("reconnect", "r1")

        assert done.out.startswith("r1 reconnecting: ")
        await desk.streams("0 taken", "0 free", "0 taken")


# -- what is shown ----------------------------------------------------------------------------


async def test_status_in_each_form(user: Cli, lab: Lab) -> None:
    async with a_desk(lab, "shown") as desk:
        await bound(user, KEYBOARD, desk.ref.name)

        plain, wide, bare, as_json, as_yaml = await user.each(
            "status", "status -o wide", "status --no-headers", "status -o json", "status -o yaml"
        )

    row = ["r1", KEYBOARD, f"{desk.ref.name}/a", "connected", "alice", "<none>"]
    assert plain.rows == [
        ["ID", "DEVICE", "SLOT", "STATE", "CONTEXT", "REASON"],
        row,
    ]
    assert wide.rows[0][2] == "NAMESPACE"
    assert wide.rows[0][6:] == [
        "NODE", "HANDOVER", "MIGRATIONS", "OUTAGE", "NAME", "USER", "CLUSTER", "REASON",
    ]  # fmt: skip
    assert bare.rows == [row]
    listed = json.loads(as_json.out)
    assert listed["kind"] == "RedirectionList"
    assert listed["items"][0]["status"]["device"] == KEYBOARD
    assert yaml.safe_load(as_yaml.out)["items"][0]["status"]["state"] == "connected"


async def test_who_watches_sees_each_change_and_the_end(user: Cli, lab: Lab) -> None:
    async with (
        a_desk(lab, "watched") as desk,
        user.start("status", "-w", "--no-headers") as table,
        user.start("status", "-w", "-o", "json") as lines,
        user.start("events", "-w", "-o", "json") as events,
    ):
        await bound(user, KEYBOARD, desk.ref.name)
        await user("unbind", "r1")

        rows = [await table.prints()]
        while "stopped" not in rows[-1]:
            rows.append(await table.prints())
        documents = [json.loads(await lines.prints())]
        while documents[-1]["status"]["state"] != "stopped":
            documents.append(json.loads(await lines.prints()))
        happened = [json.loads(await events.prints())]
        while happened[-1]["event"]["state"] != "stopped":
            happened.append(json.loads(await events.prints()))
        for command in (table, lines, events):
            command.signal(signal.SIGINT)
        ends = [await command.end() for command in (table, lines, events)]

    assert {row.split()[0] for row in rows} == {"r1"}
    assert "connected" in [document["status"]["state"] for document in documents]
    seen = [event["event"]["state"] for event in happened]
    assert [seen[0], "connected" in seen] == ["claiming", True]
    assert {end.status for end in ends} == {ExitCode.INTERRUPTED}


async def test_events_tell_of_a_migration_with_its_gap(user: Cli, lab: Lab) -> None:
    async with a_desk(lab, "moved") as desk:
        await bound(user, KEYBOARD, desk.ref.name)
        move = await lab.migrate(desk.ref)
        assert await move.finished()
        await desk.streams("0 taken", "0 free", "0 taken")
        await become(user, (f"{desk.ref.name}/a", "connected"))

        plain, as_json, named, other = await user.each(
            "events", "events r1 -o json", f"events {desk.ref.name} -o name", "events nosuch"
        )

    assert plain.rows[0] == ["TIME", "ID", "STATE", "HANDOVER", "GAP", "CAUSE"]
    told = json.loads(as_json.out)
    assert told["kind"] == "EventList"
    (handover,) = [item["event"]["handover"] for item in told["items"] if item["event"]["handover"]]
    assert (handover["kind"], handover["link_gap_ms"] > 0) == ("cold", True)
    nodes = f"{handover['source_node']}->{handover['target_node']}"
    assert f"cold {nodes}   {handover['link_gap_ms']:.0f}ms" in plain.out
    assert set(named.out.splitlines()) == {"r1"}
    refused(other, "'nosuch'")


async def test_watch_says_when_the_agent_ends(user: Cli) -> None:
    async with user.start("status", "-w") as watch:
        await user("bind", "--virtual", STICK, "nosuch", "--no-wait")
        while "nosuch" not in await watch.prints():
            pass
        await user("agent", "stop")
        done = await watch.end()

    assert (done.status, done.err) == (ExitCode.FAILURE, "error: the agent has ended\n")


async def test_watch_of_events_ends_quietly_when_nobody_reads_it_any_more(
    user: Cli, lab: Lab
) -> None:
    async with a_desk(lab, "unread") as desk:
        await bound(user, KEYBOARD, desk.ref.name)
        line = f"set -o pipefail; {sys.executable} -m kubectl_vmredir events -w | head -n 1"
        pipeline = await asyncio.create_subprocess_exec(
            "bash", "-c", line, stdout=PIPE, stderr=PIPE, env=user.variables
        )
        assert pipeline.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            assert (await pipeline.stdout.readline()).startswith(b"TIME")
            await user("reconnect", "r1")
            _, err = await pipeline.communicate()

    assert (pipeline.returncode, err) == (ExitCode.OK, b"")


async def test_log_of_the_agent_has_as_much_as_was_asked_of_the_command_that_starts_it(
    user: Cli,
) -> None:
    await user("bind", "--virtual", "-v", "6", STICK, "nosuch", "--no-wait")

    log = await user("agent", "logs")

    assert " D " in log.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--foreground", "-o", "json"), "--foreground stays"),
        (("--foreground", "--timeout", "3s"), "--foreground stays"),
        (("--foreground", "--wait=false"), "--foreground stays"),
        (("--dry-run", "-o", "name"), "a dry run binds nothing"),
        (("--timeout", "soon"), "expected a time"),
    ],
)
async def test_flags_that_make_no_sense_together_are_refused(
    user: Cli, arguments: tuple[str, ...], words: str
) -> None:
    refused(await user("bind", "--virtual", STICK, "desk", *arguments), words)
    assert (await user("agent", "status")).err == "error: no agent is running\n"


async def test_agent_that_is_killed_while_it_is_waited_for_is_said_once(
    user: Cli, lab: Lab
) -> None:
    async with a_desk(lab, "lost") as desk:
        await bound(user, KEYBOARD, desk.ref.name)
        move = await lab.migrate(desk.ref, Step.STARTED)
        await move.held(Step.STARTED)
        await become(user, (f"{desk.ref.name}/a", "migrating"))
        agent = json.loads((await user("agent", "status", "-o", "json")).out)["pid"]
        async with on_a_terminal(user, "unbind", "r1") as terminal:
            await terminal.says("waiting for the migration")
            os.kill(agent, signal.SIGKILL)
            await terminal.says("error: the agent has gone away")
            assert await terminal.end() == ExitCode.FAILURE
            assert "error" not in terminal.said
        await move.cancel()  # to lose a link in the course of one can end the VM
        await user("agent", "stop", "--force")
        await desk.streams("0 taken", "0 free")
