"""How much is drawn, and when."""

from __future__ import annotations

from kubectl_vmredir.model import VmiRef
from kubectl_vmredir.service.interface import Numbers, NumbersSampled, VmiChanged, VmisSeen
from kubectl_vmredir.tui.app import VmRedirApp
from kubectl_vmredir.tui.feed import Feed
from kubectl_vmredir.tui.widgets.row_list import RowList
from tests.support.scripted_service import (
    FEDORA,
    STICK,
    TOKEN,
    VMIS,
    ScriptedService,
    entrance_to,
    migrating,
    redirection,
    vmi,
)
from tests.support.tui import NARROW, Tui, running


class Written:
    """Counts what goes to the terminal from now on."""

    def __init__(self, tui: Tui) -> None:
        self.characters = 0
        driver = tui.app._driver
        assert driver is not None
        setattr(driver, "write", self._write)  # noqa: B010 - it is a method to mypy

    def _write(self, data: str) -> None:
        self.characters += len(data)


async def test_what_changes_nothing_writes_nothing() -> None:
    service = ScriptedService()
    service.redirect(redirection())
    async with running(service) as tui:
        await tui.sees("smartcard", "● connected")
        written = Written(tui)

        for _ in range(5):
            service.tell_vmis(VmisSeen(VMIS), VmiChanged(VMIS[0]))
            service.tell(NumbersSampled(redirection().id, Numbers()))
            service.plug(STICK, TOKEN)
            await tui.pilot.pause()

        assert written.characters == 0


async def test_a_migration_is_seen_from_its_source_to_its_target() -> None:
    service = ScriptedService()
    async with running(service) as tui:
        await tui.sees("smartcard")
        service.tell_vmis(VmiChanged(migrating(VMIS[0], to="")))
        await tui.sees("⇄ migrating", "node-1 → ? scheduling", "⇄ 1 migrating")
        service.tell_vmis(VmiChanged(migrating(VMIS[0])))
        await tui.sees("node-1 → node-2 preparing")
        service.tell_vmis(VmiChanged(migrating(VMIS[0], detected=True)))
        await tui.sees("node-1 → node-2 copying")
        service.tell_vmis(VmiChanged(vmi(FEDORA, "flash", "token", node="node-2")))
        await tui.sees_no_more("migrating")


async def test_drawings_are_not_closer_together_than_a_frame() -> None:
    service = ScriptedService()
    feed = Feed(entrance_to(service))
    app = VmRedirApp(feed, clock=lambda: 1000.0, frame_s=3600.0)
    async with app.run_test() as pilot:
        await pilot.pause()
        drawn = app.drawings
        for _ in range(50):
            feed.changed()
            await pilot.pause()
        assert app.drawings == drawn

        app.draw()  # as the timer does it
        feed.changed()
        await pilot.pause()

        assert app.drawings == drawn + 1


async def test_ten_thousand_vms_are_only_drawn_where_they_are_seen() -> None:
    service = ScriptedService()
    service.there = [vmi(VmiRef("demo", f"vm-{number:05}"), "a", "b") for number in range(10_000)]
    async with running(service) as tui:
        await tui.sees("vm-00000", "10000 VMs")
        await tui.press("2", "end")
        await tui.sees("vm-09999")
        await tui.press("slash", *"vm-04242")
        await tui.sees("1 of 10000")
        await tui.press("enter")

        rows = tui.app.screen.query_one("#vms").query_one(RowList)
        assert len(rows.rows) == 3


async def test_the_cursor_stays_with_its_device_when_others_come_and_go() -> None:
    service = ScriptedService()
    async with running(service) as tui:
        await tui.sees("YubiKey")
        await tui.press("down")
        devices = tui.app.screen.query_one("#devices").query_one(RowList)
        assert devices.row == TOKEN

        service.plug(TOKEN)
        await tui.sees_no_more("DataTraveler")
        assert devices.row == TOKEN

        service.plug(STICK)
        await tui.sees_no_more("YubiKey")
        assert devices.row == STICK


async def test_the_panes_become_tabs_when_the_window_becomes_small() -> None:
    service = ScriptedService()
    async with running(service) as tui:
        await tui.sees("DataTraveler", "smartcard", "Nothing is redirected yet.")
        await tui.pilot.resize_terminal(*NARROW)
        await tui.sees("▸1 USB devices", "DataTraveler")
        assert "smartcard" not in tui.text

        await tui.pilot.resize_terminal(140, 40)
        text = await tui.sees("DataTraveler", "smartcard", "Nothing is redirected yet.")

        assert "▸1 USB" not in text


async def test_the_mouse_moves_chooses_and_presses_keys() -> None:
    service = ScriptedService()
    async with running(service) as tui:
        await tui.sees("smartcard")
        vms = tui.app.screen.query_one("#vms").query_one(RowList)
        await tui.pilot.click(vms, offset=(10, 2))
        assert vms.row == vms.rows[2]
        assert vms.has_focus

        await tui.pilot.click(vms, offset=(10, 2), times=2)
        await tui.sees("fedora/token: move to a device")
        await tui.pilot.click("#keys", offset=(2, 0))
        await tui.sees("Bind DataTraveler")
