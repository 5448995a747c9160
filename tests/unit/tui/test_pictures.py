"""What the screens look like; see tests/support/pictures.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from kubectl_vmredir.errors import (
    AgentGone,
    ClusterUnreachable,
    DeviceUnsafe,
    Forbidden,
    KubeconfigError,
    LoginRequired,
    UsbError,
    UsbUnavailable,
    VmRedirError,
)
from kubectl_vmredir.model import (
    Danger,
    DeviceSelector,
    DeviceUse,
    Finding,
    HandoverKind,
    LocalDevice,
    RedirectionState,
)
from kubectl_vmredir.service.interface import (
    Handover,
    Numbers,
    RedirectionChanged,
    StoryAdded,
    StoryEvent,
    Trouble,
    VmiChanged,
    VmisUncertain,
)
from tests.support.pictures import compare, in_utc
from tests.support.scripted_service import (
    NOON,
    PLAIN,
    RUDE,
    STICK,
    TOKEN,
    VMIS,
    WIN11,
    ScriptedService,
    entrance_to,
    migrating,
    redirection,
    vmi,
)
from tests.support.shots import CHECKS
from tests.support.tui import NARROW, WIDE, Tui, running

SIZES = pytest.mark.parametrize("size", [NARROW, WIDE], ids=["80x24", "140x40"])

STORY = (
    StoryEvent(NOON - 95, RedirectionState.CLAIMING, "claiming the device"),
    StoryEvent(NOON - 94, RedirectionState.DIALING, "dialing the VM"),
    StoryEvent(NOON - 93, RedirectionState.CONNECTED, "plugged in"),
    StoryEvent(NOON - 40, RedirectionState.MIGRATING, "the VM moves from node-3 to node-1"),
    StoryEvent(NOON - 31, RedirectionState.HANDING_OVER, "the VM runs on node-1"),
    StoryEvent(
        NOON - 30,
        RedirectionState.CONNECTED,
        "plugged in again",
        Handover(HandoverKind.COLD, 812.4, "node-3", "node-1"),
    ),
)
NUMBERS = Numbers(
    bytes_up=38_000_000, bytes_down=120_000, migrations_survived=1, last_outage_ms=930.0,
    round_trip_ms=1.9, round_trip_to="virt-handler", resets_forwarded=2,
)  # fmt: skip


utc = pytest.fixture(autouse=True)(in_utc)


def busy() -> ScriptedService:
    """Return a service with three devices, two of them in VMs, and a rude one."""
    service = ScriptedService()
    service.plugged = (STICK, TOKEN, RUDE)
    service.redirect(dataclasses.replace(redirection(), numbers=NUMBERS), *STORY)
    service.redirect(
        dataclasses.replace(
            redirection(TOKEN, WIN11, "smartcard", RedirectionState.HOLDING, number=2),
            reason="the API server does not answer",
        )
    )
    return service


async def settled(tui: Tui, size: tuple[int, int]) -> None:
    """Wait until the screen shows what it knows."""
    await tui.sees("DataTraveler", "● live", "2 redirected")


def name(what: str, size: tuple[int, int]) -> str:
    return f"{what}-{size[0]}x{size[1]}"


@SIZES
async def test_devices(size: tuple[int, int]) -> None:
    async with running(busy(), size=size) as tui:
        await settled(tui, size)
        await compare(tui, name("devices", size))


@SIZES
async def test_a_migration_in_progress(size: tuple[int, int]) -> None:
    service = busy()
    async with running(service, size=size) as tui:
        await settled(tui, size)
        status = dataclasses.replace(redirection(), numbers=NUMBERS)
        moving = dataclasses.replace(
            status, state=RedirectionState.MIGRATING, reason="the VM moves to node-2"
        )
        event = StoryEvent(NOON, RedirectionState.MIGRATING, "the VM moves from node-1 to node-2")
        service.tell(RedirectionChanged(moving), StoryAdded(status.id, event))
        service.tell_vmis(VmiChanged(migrating(VMIS[0], detected=True)))
        await tui.press("2", "down")
        await tui.sees("⇄ migrating", "copying")
        await compare(tui, name("migration", size))


@SIZES
async def test_the_story(size: tuple[int, int]) -> None:
    async with running(busy(), size=size) as tui:
        await settled(tui, size)
        await tui.press("3")
        await tui.sees("cold handover")
        await compare(tui, name("story", size))


@SIZES
async def test_the_bind_dialog(size: tuple[int, int]) -> None:
    service = busy()
    service.uses[str(DeviceSelector.of(RUDE))] = DeviceUse(
        ("ftdi_sio",), findings=(Finding(Danger.NOTE, "picocom has /dev/ttyUSB0 open"),)
    )
    async with running(service, size=size) as tui:
        await settled(tui, size)
        await tui.press("end", "enter", "enter")
        await tui.sees("Migration", "picocom")
        await compare(tui, name("bind", size))


@SIZES
async def test_a_bind_that_needs_consent(size: tuple[int, int]) -> None:
    service = ScriptedService()
    mounted = Finding(
        Danger.FORCE, "it is mounted at /media/data, and this machine writes to it",
        "umount /media/data",
    )  # fmt: skip
    service.uses[str(DeviceSelector.of(STICK))] = DeviceUse(("usb-storage",), findings=(mounted,))
    service.trouble = Trouble.of(DeviceUnsafe(STICK, [mounted]))
    async with running(service, size=size) as tui:
        await tui.sees("DataTraveler", "● live")
        await tui.press("enter", "enter")
        await tui.sees("Device ", "(--force)")
        await compare(tui, name("consent", size))


@SIZES
async def test_the_unbind_dialog(size: tuple[int, int]) -> None:
    async with running(busy(), size=size) as tui:
        await settled(tui, size)
        await tui.press("u")
        await tui.sees("pulled the plug")
        await compare(tui, name("unbind", size))


@SIZES
async def test_the_migrate_dialog(size: tuple[int, int]) -> None:
    async with running(busy(), size=size) as tui:
        await settled(tui, size)
        await tui.press("2", "m")
        await tui.sees("Migrate demo/fedora")
        await compare(tui, name("migrate", size))


@SIZES
async def test_the_quit_dialog(size: tuple[int, int]) -> None:
    async with running(busy(), size=size) as tui:
        await settled(tui, size)
        await tui.press("q")
        await tui.sees("Keep in background")
        await compare(tui, name("quit", size))


@SIZES
async def test_the_quit_dialog_of_a_window_of_its_own(size: tuple[int, int]) -> None:
    service = busy()
    entrance = entrance_to(service, lasting=False)
    async with running(service, size=size, entrance=entrance) as tui:
        await settled(tui, size)
        await tui.press("q")
        await tui.sees("Unplug and quit")
        await compare(tui, name("quit-window", size))


@SIZES
@pytest.mark.parametrize(
    ("keys", "what", "seen"),
    [
        (("r",), "reconnect", "for a moment"),
        (("p",), "pause", "until you press p again"),
        (("x",), "context", "others: prod"),
        (("2", "N"), "name-slots", "Up to four names"),
        (("2", "y"), "yaml", "kind: VirtualMachineInstance"),
        (("D",), "doctor", "run: kubectl vmredir doctor"),
        (("colon", *"ctx pr"), "command-line", "ctx prod"),
    ],
)
async def test_what_else_keys_open(
    size: tuple[int, int], keys: tuple[str, ...], what: str, seen: str
) -> None:
    service = busy()
    entrance = dataclasses.replace(entrance_to(service), examine=lambda: CHECKS)
    async with running(service, size=size, entrance=entrance) as tui:
        await settled(tui, size)
        await tui.press(*keys)
        await tui.sees(seen)
        await compare(tui, name(what, size))


@SIZES
async def test_the_log(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log = Path("agent.log")
    log.write_text(  # noqa: ASYNC240 - nothing runs yet
        "12:00:00 the agent begins\n12:00:07 r1: connected\n"
    )
    service = busy()
    entrance = dataclasses.replace(entrance_to(service), log=log)
    async with running(service, size=size, entrance=entrance) as tui:
        await settled(tui, size)
        await tui.press("l")
        await tui.sees("r1: connected")
        await compare(tui, name("log", size))


@SIZES
async def test_unplugging_before_the_end(size: tuple[int, int]) -> None:
    service = busy()
    service.hold_unbind()
    async with running(service, size=size) as tui:
        await settled(tui, size)
        await tui.press("q", "right", "enter")
        await tui.sees("Unplugging")
        await compare(tui, name("unplugging", size))
        service.let_go()


@SIZES
@pytest.mark.parametrize(
    ("error", "what", "seen"),
    [
        (KubeconfigError("no kubeconfig is there", hint="Use --lab."), "no-cluster", "No cluster"),
        (AgentGone("no agent is running"), "no-agent", "No agent"),
    ],
)
async def test_what_cannot_be_opened(
    size: tuple[int, int], error: VmRedirError, what: str, seen: str
) -> None:
    async def before() -> None:
        raise error

    service = busy()
    entrance = entrance_to(service, before=before)
    async with running(service, size=size, entrance=entrance) as tui:
        await tui.press("2")
        await tui.sees(seen)
        await compare(tui, name(what, size))


@SIZES
async def test_the_login_has_expired(size: tuple[int, int]) -> None:
    service = ScriptedService()
    service.there = LoginRequired("the token has expired", hint="Log in with: oc login")
    async with running(service, size=size) as tui:
        await tui.press("2")
        await tui.sees("does not accept your login")
        await compare(tui, name("login", size))


@SIZES
@pytest.mark.parametrize(
    ("plugged", "what", "seen"),
    [
        ((), "no-devices", "No USB device"),
        (UsbUnavailable("there is no USB bus", hint="In a container?"), "no-usb", "no USB bus"),
    ],
)
async def test_nothing_to_plug_in(
    size: tuple[int, int], plugged: Sequence[LocalDevice] | UsbError, what: str, seen: str
) -> None:
    service = ScriptedService()
    service.plugged = plugged
    async with running(service, size=size) as tui:
        await tui.sees(seen, "● live")
        await compare(tui, name(what, size))


@SIZES
async def test_who_only_looks(size: tuple[int, int]) -> None:
    async with running(busy(), size=size, read_only=True) as tui:
        await settled(tui, size)
        await compare(tui, name("read-only", size))


@SIZES
async def test_the_agent_is_gone(size: tuple[int, int]) -> None:
    service = busy()
    async with running(service, size=size) as tui:
        await settled(tui, size)
        await tui.press("2")
        service.go(AgentGone("the agent has gone away"))
        await tui.sees("as old as", "agent gone")
        await compare(tui, name("agent-gone", size))


@SIZES
async def test_the_namespace_dialog(size: tuple[int, int]) -> None:
    async with running(busy(), size=size) as tui:
        await settled(tui, size)
        await tui.press("n")
        await tui.sees("seen: demo")
        await compare(tui, name("namespace", size))


@SIZES
async def test_details_of_a_redirection(size: tuple[int, int]) -> None:
    async with running(busy(), size=size) as tui:
        await settled(tui, size)
        await tui.press("3", "d")
        await tui.sees("Next handover")
        await compare(tui, name("details", size))


@SIZES
async def test_the_help(size: tuple[int, int]) -> None:
    async with running(busy(), size=size) as tui:
        await settled(tui, size)
        await tui.press("question_mark")
        await tui.sees("enter b")
        await compare(tui, name("help", size))


@SIZES
async def test_no_vm_has_slots(size: tuple[int, int]) -> None:
    service = ScriptedService()
    service.there = [vmi(PLAIN)]
    async with running(service, size=size) as tui:
        await tui.press("2")
        await tui.sees("clientPassthrough: {}", "plain")
        await compare(tui, name("no-slots", size))


@SIZES
async def test_no_right_to_see_vms(size: tuple[int, int]) -> None:
    service = ScriptedService()
    service.there = Forbidden(
        "alice may not list virtualmachineinstances in namespace demo",
        hint="Ask for the ClusterRole kubevirt.io:edit in namespace demo.",
    )
    async with running(service, size=size) as tui:
        await tui.press("2")
        await tui.sees("You may not see the VMs", "no permission")
        await compare(tui, name("forbidden", size))


@SIZES
async def test_the_api_is_gone(size: tuple[int, int]) -> None:
    service = busy()
    async with running(service, size=size) as tui:
        await settled(tui, size)
        await tui.press("2")
        trouble = Trouble.of(ClusterUnreachable("no answer from https://10.0.0.1:6443"))
        service.tell_vmis(VmisUncertain(trouble))
        await tui.sees("as old as")
        await compare(tui, name("api-gone", size))


@pytest.mark.parametrize("what", ["devices", "bind", "story", "help"])
async def test_a_light_theme(what: str) -> None:
    keys = {
        "devices": (), "bind": ("end", "enter", "enter"), "story": ("3",),
        "help": ("question_mark",),
    }[what]  # fmt: skip
    seen = {"devices": "● live", "bind": "Migration", "story": "plugged in", "help": "enter b"}
    async with running(busy(), theme="textual-light") as tui:
        await settled(tui, WIDE)
        await tui.press(*keys)
        await tui.sees(seen[what])
        await compare(tui, f"{what}-light")


async def test_a_picture_that_differs_is_told_with_what_differs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("UPDATE_PICTURES", raising=False)
    async with running(ScriptedService()) as tui:
        await tui.sees("DataTraveler", "● live")

        with pytest.raises(AssertionError, match="DataTraveler"):
            await compare(tui, name("help", WIDE))
