"""What the bind dialog shows, and what it asks consent for."""

from __future__ import annotations

import pytest

from kubectl_vmredir.errors import DeviceUnsafe, NoUsbSlots
from kubectl_vmredir.model import Danger, DeviceSelector, DeviceUse, Finding
from kubectl_vmredir.service.interface import BindRequest, Trouble
from kubectl_vmredir.tui.screens.dialog import DEAF_S
from tests.support.scripted_service import FEDORA, RUDE, STICK, ScriptedService
from tests.support.tui import NARROW, Tui, running

MOUNTED = Finding(Danger.FORCE, "it is mounted at /media/data", "umount /media/data")
ONLY_KEYBOARD = Finding(Danger.ALLOW, "it is the only keyboard of this machine")
ROOT_DISK = Finding(Danger.NEVER, "this machine runs from it")


def finding(found: Finding) -> ScriptedService:
    """Return a service that finds this about the stick."""
    service = ScriptedService()
    service.uses[str(DeviceSelector.of(STICK))] = DeviceUse(("usb-storage",), findings=(found,))
    if found.danger is not Danger.NOTE:
        service.trouble = Trouble.of(DeviceUnsafe(STICK, [found]))
    return service


async def open_dialog(tui: Tui) -> None:
    """Ask for the stick in fedora/flash."""
    await tui.sees("DataTraveler", "live")
    await tui.press("enter", "enter")
    await tui.sees("Bind DataTraveler 3.0", "Into", "Migration")


async def test_it_says_what_will_be_and_why() -> None:
    async with running(ScriptedService()) as tui:
        await open_dialog(tui)
        await tui.sees(
            "Device     DataTraveler 3.0  storage  0951:1666:FLASH001",
            "Into       demo/fedora slot flash",
            "cold: the VM loses the device while it moves",
            "because this version has the api route only",
            "nothing needs it",
            "a disk that the guest writes to loses its cache",
        )


@pytest.mark.parametrize(
    ("found", "request_"),
    [
        (MOUNTED, BindRequest(DeviceSelector.of(STICK), FEDORA, "flash", force=True)),
        (
            ONLY_KEYBOARD,
            BindRequest(DeviceSelector.of(STICK), FEDORA, "flash", allow_keyboard=True),
        ),
    ],
)
async def test_what_needs_consent_is_bound_only_with_it(
    found: Finding, request_: BindRequest
) -> None:
    service = finding(found)
    flag = "--force" if request_.force else "--allow keyboard"
    async with running(service) as tui:
        await open_dialog(tui)
        await tui.sees(found.message, "[ ]", flag)
        tui.clock.now_s += DEAF_S

        await tui.press("left", "space")  # from Cancel back to the box
        await tui.sees("[X]")
        await tui.sees(f"flash -n demo {flag.split()[0]}")
        tui.clock.now_s += DEAF_S
        await tui.press("right", "right", "enter")
        await tui.sees("claiming")

    assert service.asked == [("bind", request_)]


async def test_consent_that_is_asked_for_leaves_the_focus_on_cancel_and_is_deaf() -> None:
    service = finding(MOUNTED)
    async with running(service) as tui:
        await open_dialog(tui)
        await tui.sees("needs force")
        await tui.press("enter")
        await tui.sees("needs force")

        tui.clock.now_s += DEAF_S
        await tui.press("enter")

        assert "needs force" not in tui.text
    assert service.asked == []


async def test_what_is_never_done_has_no_box() -> None:
    async with running(finding(ROOT_DISK)) as tui:
        await open_dialog(tui)
        text = await tui.sees("✖ refused: this machine runs from it")

        assert "(--force)" not in text
        assert "(--allow keyboard)" not in text


async def test_a_note_is_no_danger() -> None:
    service = finding(Finding(Danger.NOTE, "a program has it open"))
    async with running(service) as tui:
        await open_dialog(tui)
        await tui.sees("● note: a program has it open")
        await tui.press("enter")

    assert [command for command, _ in service.asked] == ["bind"]


async def test_what_cannot_be_planned_is_said_with_its_hint() -> None:
    service = ScriptedService()
    service.refusal = NoUsbSlots(FEDORA)
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("enter", "enter")
        await tui.sees("✖ VM demo/fedora has no USB slots", "kubectl patch vm")
        tui.clock.now_s += DEAF_S
        await tui.press("enter")

    assert [command for command, _ in service.asked] == ["plan"]


async def test_escape_binds_nothing() -> None:
    service = ScriptedService()
    async with running(service) as tui:
        await open_dialog(tui)
        await tui.press("escape")

        assert "Migration" not in tui.text
    assert service.asked == []


async def test_c_copies_the_command_line_of_the_dialog() -> None:
    async with running(ScriptedService()) as tui:
        await open_dialog(tui)
        await tui.press("c")
        await tui.sees("Copied")

        assert tui.app.clipboard.startswith("kubectl vmredir bind 0951:1666:FLASH001 fedora/flash")


async def test_what_a_device_calls_itself_is_no_markup() -> None:
    service = ScriptedService()
    service.plugged = (RUDE,)
    async with running(service) as tui:
        await tui.sees("[bold red]FTDI[/] \\x1b[2J")
        await tui.press("enter", "enter")
        await tui.sees("Bind [bold red]FTDI[/]")


async def test_all_of_it_is_seen_on_a_small_screen() -> None:
    async with running(finding(MOUNTED), size=NARROW) as tui:
        await tui.sees("DataTraveler")
        await tui.press("enter", "enter")
        await tui.sees("Bind DataTraveler 3.0", "Device ", "Cancel", "(--force)")
