"""Each key of the main screen, on a scripted service."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from kubectl_vmredir.errors import Forbidden
from kubectl_vmredir.model import Check, DeviceSelector, Outcome, RedirectionState
from kubectl_vmredir.service.interface import BindRequest, RedirectionChanged, StoryEvent, VmisSeen
from kubectl_vmredir.tui.acting import NOTICE_S
from kubectl_vmredir.tui.app import VmRedirApp
from kubectl_vmredir.tui.keys import full, key_names
from kubectl_vmredir.tui.screens.dialog import DEAF_S
from kubectl_vmredir.tui.screens.log_screen import LogScreen
from kubectl_vmredir.tui.screens.main_screen import MainScreen
from kubectl_vmredir.tui.widgets.command_line import CommandLine
from kubectl_vmredir.tui.widgets.key_bar import KeyBar
from kubectl_vmredir.tui.widgets.row_list import RowList
from tests.support.scripted_service import (
    FEDORA,
    NOON,
    STICK,
    TOKEN,
    VMIS,
    ScriptedService,
    entrance_to,
    redirection,
    vmi,
)
from tests.support.tui import NARROW, Tui, running

LINKED = StoryEvent(NOON, RedirectionState.CONNECTED, "plugged in")


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


def with_stick(service: ScriptedService) -> ScriptedService:
    """Put the stick into fedora/flash."""
    service.redirect(redirection(), LINKED)
    return service


async def hears_again(tui: Tui) -> None:
    """Let a dialog's deafness pass."""
    tui.clock.now_s += DEAF_S


async def test_enter_on_a_device_and_on_a_slot_binds_in_three_presses(
    service: ScriptedService,
) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("enter")
        await tui.sees("DataTraveler 3.0: move to a slot and press enter")
        await tui.press("enter")
        await tui.sees("$ kubectl vmredir bind 0951:1666:FLASH001 fedora/flash", "cold", "Bind")
        await tui.press("enter")
        await tui.sees("◐ claiming")

    assert service.asked == [("bind", BindRequest(DeviceSelector.of(STICK), FEDORA, "flash"))]


async def test_b_on_a_slot_and_on_a_device_binds_as_well(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("2", "j", "j", "b")
        await tui.sees("fedora/token: move to a device and press enter")
        await tui.press("j", "b")
        await tui.sees("Bind YubiKey")
        await tui.press("enter")

    (asked,) = service.asked
    assert asked == ("bind", BindRequest(DeviceSelector.of(TOKEN), FEDORA, "token"))


async def test_a_device_can_be_picked_before_the_vms_are_known(service: ScriptedService) -> None:
    service.there = None
    async with running(service) as tui:
        await tui.sees("Waiting for the cluster")
        await tui.press("enter")
        service.tell_vmis(VmisSeen(VMIS))
        await tui.sees("smartcard")
        await tui.press("enter")
        await tui.sees("fedora/flash -n demo")


async def test_escape_drops_what_was_picked(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("enter")
        await tui.sees("move to a slot")
        await tui.press("escape")

        assert "move to a slot" not in tui.text


async def test_a_picked_device_that_is_unplugged_is_dropped(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("enter")
        service.plug(TOKEN)
        text = await tui.sees("DataTraveler 3.0 was unplugged")

        assert "move to a slot" not in text


async def test_u_unbinds_after_asking(service: ScriptedService) -> None:
    async with running(with_stick(service)) as tui:
        await tui.sees("● connected")
        await tui.press("u")
        await tui.sees("Unbind DataTraveler 3.0 from demo/fedora")
        await hears_again(tui)
        await tui.press("right", "enter")
        await tui.sees("DataTraveler 3.0 is free again")

    assert service.asked == [("unbind", redirection().id)]


async def test_a_dangerous_dialog_has_the_focus_on_cancel(service: ScriptedService) -> None:
    async with running(with_stick(service)) as tui:
        await tui.sees("● connected")
        await tui.press("u")
        await hears_again(tui)
        await tui.press("enter")

        assert "Unbind DataTraveler" not in tui.text
    assert service.asked == []


async def test_a_dangerous_dialog_is_deaf_at_first(service: ScriptedService) -> None:
    async with running(with_stick(service)) as tui:
        await tui.sees("● connected")
        await tui.press("u")
        await tui.press("right", "enter", "escape")
        await tui.sees("Unbind DataTraveler 3.0 from demo/fedora")
        assert service.asked == []

        await hears_again(tui)
        await tui.press("escape")

        assert "Unbind DataTraveler" not in tui.text


async def test_m_migrates_after_asking(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("2", "m")
        await tui.sees("Migrate demo/fedora", "$ kubectl vmredir migrate fedora -n demo --lab")
        await tui.press("enter")
        await tui.sees("fedora is asked to migrate")

    assert service.asked == [("migrate", FEDORA)]


async def test_what_the_cluster_refuses_is_told_with_its_hint(service: ScriptedService) -> None:
    service.refusal = Forbidden("alice may not create migrations", hint="Ask for the role.")
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("2", "m", "enter")
        await tui.sees("alice may not create migrations", "Ask for the role.")


async def test_capital_k_keeps_what_is_on_trial(service: ScriptedService) -> None:
    service.redirect(dataclasses.replace(redirection(), trial_ends=NOON + 30))
    async with running(service) as tui:
        await tui.sees("it comes back at 12:00:30 unless you keep it", "K Keep")
        await tui.press("K")
        await tui.sees("DataTraveler 3.0 stays in the VM")

    assert service.asked == [("confirm", redirection().id)]


async def test_d_shows_all_of_a_device_a_vm_or_a_redirection(service: ScriptedService) -> None:
    async with running(with_stick(service)) as tui:
        await tui.sees("● connected")
        await tui.press("d")
        await tui.sees("Manufacturer  Kingston", "usb-storage", "nothing on this machine needs it")
        await tui.press("escape", "2", "d")
        await tui.sees("Can migrate  yes", "flash, token")
        await tui.press("escape", "3", "d")
        await tui.sees("Story, latest first", "plugged in")


async def test_d_on_a_vm_without_slots_shows_how_it_gets_them(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("2", "j", "j", "j", "d")
        await tui.sees("VM plain has no USB slots", "clientPassthrough: {}")


async def test_slash_filters_while_one_types(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("YubiKey")
        await tui.press("slash", *"yubi")
        text = await tui.sees("1 of 2")
        assert "DataTraveler" not in text

        await tui.press("enter", "enter")
        await tui.sees("move to a slot")
        await tui.press("escape", "1", "escape")
        await tui.sees("DataTraveler")


async def test_a_filter_with_an_exclamation_mark_leaves_out(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("2", "slash", *"node !node-1")
        text = await tui.sees("2 of 3")

        assert "fedora" not in text


async def test_a_filter_that_hides_all_says_so(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("YubiKey")
        await tui.press("slash", *"nothing")
        await tui.sees("The filter hides 2 devices.", "esc: show all again")
        await tui.press("escape")
        await tui.sees("YubiKey")


async def test_keys_in_the_filter_are_only_text(service: ScriptedService) -> None:
    async with running(with_stick(service)) as tui:
        await tui.sees("● connected")
        await tui.press("slash", *"umqabd")
        await tui.sees("umqabd")

        assert isinstance(tui.app.screen, MainScreen)
    assert service.asked == []


async def test_n_asks_for_a_namespace(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("n", *"No!", "enter")
        await tui.sees("'No!' is no name of a namespace")
        await tui.press("backspace", "backspace", "backspace", *"prod", "enter")
        await tui.sees("ns prod", "No VM runs in namespace prod.")

    assert service.scopes == ["demo", "prod"]


async def test_a_shows_all_namespaces_and_then_the_one_again(service: ScriptedService) -> None:
    service.there = (*VMIS, vmi(dataclasses.replace(FEDORA, namespace="prod"), "usb0"))
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("a")
        await tui.sees("demo/fedora", "prod/fedora", "all namespaces")
        await tui.press("a")
        await tui.sees("ns demo")

    assert service.scopes == ["demo", None, "demo"]


async def test_c_copies_the_command_line(service: ScriptedService) -> None:
    async with running(with_stick(service)) as tui:
        await tui.sees("● connected")
        await tui.press("c")
        await tui.sees("Copied")

        assert tui.app.clipboard == (
            "kubectl vmredir bind 0951:1666:FLASH001 fedora/flash -n demo --lab"
        )


async def test_space_folds_a_vm(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("2", "end", "space")
        assert "smartcard" not in tui.text

        await tui.press("space")
        assert "smartcard" in tui.text


async def test_digits_and_tab_go_to_the_panes(service: ScriptedService) -> None:
    async with running(service, size=NARROW) as tui:
        await tui.sees("DataTraveler")
        await tui.press("2")
        await tui.sees("smartcard")
        await tui.press("3")
        await tui.sees("Nothing is redirected yet.")
        await tui.press("1")
        await tui.sees("DataTraveler")
        await tui.press("tab")
        await tui.sees("smartcard")
        await tui.press("shift+tab", "shift+tab")
        await tui.sees("Nothing is redirected yet.")


@pytest.mark.parametrize(
    ("keys", "row"),
    [
        (("down",), 1), (("j",), 1), (("j", "k"), 0), (("down", "up"), 0), (("end",), 5),
        (("G",), 5), (("G", "g"), 0), (("end", "home"), 0), (("pagedown",), 5),
        (("pagedown", "pageup"), 0), (("up",), 0),
    ],
)  # fmt: skip
async def test_the_cursor_moves(service: ScriptedService, keys: tuple[str, ...], row: int) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("2", *keys)

        rows = tui.app.screen.query_one("#vms").query_one(RowList)
        assert rows.row == rows.rows[row]


async def test_ctrl_r_tries_again_at_once(service: ScriptedService) -> None:
    service.there = Forbidden("alice may not list VMs")
    async with running(service) as tui:
        await tui.sees("You may not see the VMs of namespace demo")
        service.there = VMIS
        await tui.press("ctrl+r")
        await tui.sees("smartcard")


async def test_question_mark_shows_every_key_with_what_it_does(service: ScriptedService) -> None:
    async with running(service, size=(140, 70)) as tui:
        await tui.sees("smartcard")
        await tui.press("question_mark")
        text = await tui.sees("Keys", "In a list", "Everywhere", "States of a redirection")

        for binding in full((*MainScreen.BINDINGS, *RowList.BINDINGS, *VmRedirApp.BINDINGS)):
            assert binding.tooltip, f"{binding.action} has nothing to say in the help"
            assert f"{' '.join(key_names(binding))} " in text
            assert binding.tooltip in text
        await tui.press("escape")
        await tui.sees("1 USB devices")


async def test_q_ends_at_once_if_nothing_is_redirected(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("q")

        assert not tui.app.is_running


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_what_the_agent_has_stays_in_the_background_unless_one_says_otherwise(
    service: ScriptedService, key: str
) -> None:
    async with running(with_stick(service)) as tui:
        await tui.sees("● connected")
        await tui.press(key)
        await tui.sees("1 device is plugged into VMs", "Keep in background", "Stop all", "Cancel")
        await tui.press("enter")

        assert not tui.app.is_running
    assert service.asked == []


async def test_who_cancels_stays(service: ScriptedService) -> None:
    async with running(with_stick(service)) as tui:
        await tui.sees("● connected")
        await tui.press("q", "escape")

        assert tui.app.is_running
        assert "Keep in background" not in tui.text


async def test_what_is_in_this_window_is_lost_with_it_so_cancel_has_the_focus(
    service: ScriptedService,
) -> None:
    entrance = entrance_to(with_stick(service), lasting=False)
    async with running(service, entrance=entrance) as tui:
        await tui.sees("● connected", "this window")
        await tui.press("q")
        await tui.sees("The VMs lose them when it ends.")
        await hears_again(tui)
        await tui.press("enter")

        assert tui.app.is_running
    assert service.asked == []


async def test_who_wants_to_stop_all_waits_until_all_is_unplugged(service: ScriptedService) -> None:
    service.hold_unbind()
    async with running(with_stick(service)) as tui:
        await tui.sees("● connected")
        await tui.press("q", "right", "enter")
        await tui.sees("Unplugging", "as soon as that cannot harm its VM")
        assert tui.app.is_running

        service.let_go()
        await tui.ends()

    assert service.asked == [("unbind", redirection().id)]


async def test_r_reconnects_after_asking(service: ScriptedService) -> None:
    async with running(with_stick(service)) as tui:
        await tui.sees("● connected")
        await tui.press("r")
        await tui.sees("Reconnect DataTraveler 3.0", "for a moment")
        await hears_again(tui)
        await tui.press("right", "enter")

    assert service.asked == [("reconnect", redirection().id)]


@pytest.mark.parametrize(("key", "asked"), [("r", "reconnect"), ("p", "pause")])
async def test_nothing_is_asked_where_there_is_nothing_to_lose(
    service: ScriptedService, key: str, asked: str
) -> None:
    service.redirect(dataclasses.replace(redirection(), state=RedirectionState.BLOCKED))
    async with running(service) as tui:
        await tui.sees("✖ blocked")
        await tui.press(key)

    assert service.asked == [(asked, redirection().id)]


async def test_p_pauses_after_asking_and_then_goes_on(service: ScriptedService) -> None:
    async with running(with_stick(service)) as tui:
        await tui.sees("● connected")
        await tui.press("p")
        await tui.sees("Pause DataTraveler 3.0 in demo/fedora")
        await hears_again(tui)
        await tui.press("right", "enter")
        await tui.sees("DataTraveler 3.0 is paused: p goes on")

        paused = dataclasses.replace(redirection(), state=RedirectionState.PAUSED)
        service.tell(RedirectionChanged(paused))
        await tui.sees("‖ paused", "p Go on")
        await tui.press("p")
        await tui.sees("DataTraveler 3.0 goes on")

    assert service.asked == [("pause", redirection().id), ("resume", redirection().id)]


async def test_m_says_what_is_missing_where_the_user_may_not_migrate(
    service: ScriptedService,
) -> None:
    service.may = False
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("2")
        await tui.until(lambda: tui.feed.world.may_migrate == {"demo": False})
        await tui.press("m")
        await tui.sees("kubevirt.io:migrate")

    assert service.asked == []


async def test_x_goes_to_another_context(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard", "ctx lab")
        await tui.press("x")
        await tui.sees("now: lab", "others: prod")
        await tui.press("enter")
        await tui.sees("ctx prod", "smartcard")


async def test_x_does_not_unplug_what_is_in_this_window(service: ScriptedService) -> None:
    entrance = entrance_to(with_stick(service), lasting=False)
    async with running(service, entrance=entrance) as tui:
        await tui.sees("● connected")
        await tui.press("x")
        await tui.sees("devices are plugged in from this window")


async def test_y_shows_the_vm_as_the_cluster_keeps_it(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("2", "y")
        await tui.sees("kind: VirtualMachineInstance", "  name: fedora")
        await tui.press("escape")
        assert isinstance(tui.app.screen, MainScreen)


async def test_l_shows_the_log_as_it_grows(service: ScriptedService, tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    log.write_text("the agent begins\n")
    entrance = dataclasses.replace(entrance_to(service), log=log)
    async with running(service, entrance=entrance) as tui:
        await tui.sees("smartcard")
        await tui.press("l")
        await tui.sees("agent.log", "the agent begins")
        log.write_text("the agent begins\n\x1b[2Jbound\n")
        screen = tui.app.screen
        assert isinstance(screen, LogScreen)
        screen.look()
        await tui.sees("\\x1b[2Jbound")


async def test_capital_d_looks_at_this_machine(service: ScriptedService) -> None:
    checks = (
        Check("libusb", Outcome.OK, "libusb-1.0.so.0 is there"),
        Check("udev rule", Outcome.FAILED, "there is none", "sudo udevadm trigger"),
    )
    entrance = dataclasses.replace(entrance_to(service), examine=lambda: checks)
    async with running(service, entrance=entrance) as tui:
        await tui.sees("smartcard")
        await tui.press("D")
        await tui.sees("● ok  libusb-1.0.so.0 is there", "✖ failed", "run: sudo udevadm trigger")


async def test_capital_n_names_the_slots_of_a_vm(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("2", "N")
        await tui.sees("Name the slots of demo/fedora", "flash,token")
        await tui.press("comma", "A", "enter")
        await tui.sees("'A' is no name of a slot")
        await tui.press("backspace", *"card", "enter")
        await tui.sees("the slots of fedora are named", "card")

    assert service.asked == [("name_slots", (FEDORA, ("flash", "token", "card")))]


async def test_names_that_a_restart_loses_are_said_to_be_so(service: ScriptedService) -> None:
    service.lasting = False
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("2", "N", "enter")
        await tui.sees("there is no VM of that")


async def test_a_command_can_be_typed_and_is_completed(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("colon", *"ctx p")
        await tui.sees("ctx prod")
        await tui.press("tab", "enter")
        await tui.sees("ctx prod", "smartcard")
        await tui.press("colon", *"ns other", "enter")
        await tui.sees("No VM runs in namespace other.")


async def test_a_command_that_does_not_exist_is_refused_with_the_one_that_was_meant(
    service: ScriptedService,
) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("colon", *"unbimd", "enter")
        await tui.sees("there is no command 'unbimd': did you mean 'unbind'?")
        await tui.press("colon", *"q", "escape")

        assert tui.app.is_running
        assert isinstance(tui.app.focused, RowList)


async def test_a_context_can_be_typed_over_the_one_that_is_proposed(
    service: ScriptedService,
) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("x")
        await tui.sees("now: lab", "prod")
        await tui.press(*"prod", "enter")
        await tui.sees("ctx prod")


@pytest.mark.parametrize("pane", ["1", "2", "3"])
async def test_a_command_that_is_typed_fast_is_no_keys(service: ScriptedService, pane: str) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press(pane)
        await tui.types(":unbimd x/y:z")
        await tui.sees("unbimd x/y:z")
        await tui.press("enter")
        await tui.sees("there is no command 'unbimd'")

        assert isinstance(tui.app.screen, MainScreen)


async def test_a_filter_that_is_typed_fast_is_no_keys(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.types("/yubi:/nu")
        await tui.sees("yubi:/nu")

        assert isinstance(tui.app.screen, MainScreen)


async def test_a_click_opens_the_command_line_for_who_types_a_filter(
    service: ScriptedService,
) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("slash", "y")
        bar = tui.app.screen.query_one(KeyBar)
        bar.post_message(KeyBar.Clicked(bar, "command_line"))
        await tui.until(lambda: isinstance(tui.app.focused, CommandLine))


async def test_q_on_the_command_line_is_the_key(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("colon", "q", "enter")
        await tui.ends()


@pytest.mark.parametrize("key", ["enter", "u", "r", "p", "m", "N"])
async def test_who_only_looks_changes_nothing(service: ScriptedService, key: str) -> None:
    async with running(with_stick(service), read_only=True) as tui:
        await tui.sees("● connected", "READ-ONLY")
        await tui.press(key)
        await tui.sees("this is --read-only")

    assert service.asked == []


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (("enter",), "DataTraveler 3.0 is already in demo/fedora"),
        (("2", "j", "enter"), "slot flash already holds DataTraveler 3.0"),
        (("2", "j", "j", "j", "b"), "VM plain has no USB slots"),
        (("3", "b"), "choose a device (1) or a slot (2) to bind"),
        (("j", "u"), "nothing is plugged into a VM here"),
        (("j", "m"), "no VM is chosen: press 2 and move to one"),
        (("K",), "no keyboard or pointer is on trial here"),
    ],
)
async def test_a_key_that_cannot_act_says_why(
    service: ScriptedService, keys: tuple[str, ...], reason: str
) -> None:
    async with running(with_stick(service)) as tui:
        await tui.sees("● connected", "smartcard")
        await tui.press(*keys)
        await tui.sees(*reason.split(" ", 1)[:1])

        (notice,) = tui.app._notifications
        assert notice.message.startswith(reason)
    assert service.asked == []


async def test_the_same_reason_is_said_once_as_long_as_it_can_be_read(
    service: ScriptedService,
) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        await tui.press("u", "u", "u")
        assert len(tui.app._notifications) == 1

        tui.clock.now_s += NOTICE_S
        await tui.press("u")

        assert len(tui.app._notifications) == 2


async def test_ctrl_z_goes_back_to_the_shell(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")

        found = tui.app.active_bindings["ctrl+z"]

        assert found.binding.action == "suspend_process"
        assert found.enabled


async def test_the_palette_offers_what_the_keys_do(service: ScriptedService) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        offered = {command.title for command in tui.app.get_system_commands(tui.app.screen)}

    assert {"Theme", "Bind", "Unbind", "Migrate", "Filter", "Help", "Quit"} <= offered
