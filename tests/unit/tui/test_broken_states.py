"""What is shown where something is missing or broken, and that it recovers by itself."""

from __future__ import annotations

import asyncio

import pytest

from kubectl_vmredir.errors import (
    AgentGone,
    ClusterUnreachable,
    Forbidden,
    KubeconfigError,
    LoginRequired,
    UsbUnavailable,
    VmRedirError,
)
from kubectl_vmredir.model import VmiRef
from kubectl_vmredir.service.interface import Trouble, VmisSeen, VmisUncertain
from tests.support.scripted_service import (
    PLAIN,
    VMIS,
    ScriptedService,
    entrance_to,
    redirection,
    vmi,
)
from tests.support.tui import NARROW, WIDE, running

SIZES = pytest.mark.parametrize("size", [WIDE, NARROW])


@pytest.fixture
def service() -> ScriptedService:
    return ScriptedService()


@SIZES
async def test_without_a_cluster_it_says_what_is_wrong_and_goes_on_when_there_is_one(
    service: ScriptedService, size: tuple[int, int]
) -> None:
    errors: list[VmRedirError] = [
        KubeconfigError("no kubeconfig is there", hint="Set KUBECONFIG, or use --lab.")
    ]

    async def before() -> None:
        if errors:
            raise errors.pop()

    entrance = entrance_to(service, before=before)
    async with running(service, size=size, entrance=entrance) as tui:
        await tui.press("2")
        text = await tui.sees(
            "✖ no cluster", "no kubeconfig is there", "Set KUBECONFIG, or use --lab."
        )
        assert "all namespaces" not in text
        await tui.press("ctrl+r")
        await tui.sees("smartcard", "● live")


async def test_the_screen_does_not_wait_for_the_cluster(service: ScriptedService) -> None:
    comes = asyncio.Event()

    async def before() -> None:
        await comes.wait()

    async with running(service, entrance=entrance_to(service, before=before)) as tui:
        await tui.sees("Looking for USB devices", "Waiting for the cluster", "◌ connecting")
        await tui.press("2", "a")
        await tui.sees("the cluster is not connected yet")

        comes.set()
        await tui.sees("smartcard", "DataTraveler")


@SIZES
@pytest.mark.parametrize(
    ("error", "title"),
    [
        (
            Forbidden("alice may not list virtualmachineinstances", hint="Ask for the role view."),
            "✖ You may not see the VMs of namespace demo",
        ),
        (
            LoginRequired("the token has expired", hint="Log in with: oc login"),
            "✖ The cluster does not accept your login",
        ),
        (
            ClusterUnreachable("no route to 10.0.0.1", hint="Is the VPN up?"),
            "✖ The cluster cannot be reached",
        ),
    ],
)
async def test_what_the_cluster_says_no_with_is_told_with_the_way_out(
    service: ScriptedService, size: tuple[int, int], error: VmRedirError, title: str
) -> None:
    service.there = error
    async with running(service, size=size) as tui:
        await tui.press("2")
        await tui.sees(title, str(error), error.hint or "")


@SIZES
async def test_without_usb_it_says_why(service: ScriptedService, size: tuple[int, int]) -> None:
    service.plugged = UsbUnavailable(
        "there is no USB bus", hint="In a container? Add /dev/bus/usb."
    )
    async with running(service, size=size) as tui:
        await tui.sees("✖ USB devices cannot be listed", "there is no USB bus", "In a container?")


@SIZES
async def test_without_a_device_it_says_what_to_do(
    service: ScriptedService, size: tuple[int, int]
) -> None:
    service.plugged = ()
    async with running(service, size=size) as tui:
        await tui.sees("No USB device is plugged in here.", "Plug one in")
        await tui.press("enter")
        await tui.sees("there is no USB device here to plug in")


@SIZES
async def test_without_a_vm_it_says_where_there_may_be_some(
    service: ScriptedService, size: tuple[int, int]
) -> None:
    service.there = ()
    async with running(service, size=size) as tui:
        await tui.press("2")
        await tui.sees("No VM runs in namespace demo.", "a: all namespaces")
        await tui.press("a")
        await tui.sees("No VM runs in this cluster.")


@SIZES
async def test_if_no_vm_has_slots_it_shows_what_to_add(
    service: ScriptedService, size: tuple[int, int]
) -> None:
    service.there = [vmi(PLAIN)]
    async with running(service, size=size) as tui:
        await tui.press("2")
        await tui.sees(
            "None of these VMs has USB slots.", "vmredir.io/slots", "clientPassthrough: {}"
        )


@SIZES
async def test_when_the_api_goes_away_it_says_how_old_it_is_and_takes_that_back(
    service: ScriptedService, size: tuple[int, int]
) -> None:
    async with running(service, size=size) as tui:
        await tui.press("2")
        await tui.sees("smartcard")
        service.tell_vmis(VmisUncertain(Trouble.of(ClusterUnreachable("connection reset"))))
        await tui.sees(
            "What is shown is as old as 12:00:00", "connection reset", "smartcard", "no news since"
        )

        service.tell_vmis(VmisSeen(VMIS))
        text = await tui.sees("● live")

        assert "connection reset" not in text


@SIZES
async def test_when_the_agent_goes_away_what_was_known_stays_and_it_is_reached_again(
    service: ScriptedService, size: tuple[int, int]
) -> None:
    service.redirect(redirection())
    async with running(service, size=size) as tui:
        await tui.press("2")
        await tui.sees("smartcard", "● connected")
        service.go(AgentGone("the agent has gone away"))
        await tui.sees(
            "✖ agent gone", "What is shown is as old as 12:00:00", "the agent has gone away",
            "smartcard", "no news since",
        )  # fmt: skip
        await tui.press("j", "u")
        await tui.sees("there is no agent: the agent has gone away")

        await tui.press("ctrl+r")
        text = await tui.sees("● live")

        assert "✖" not in text
    assert service.asked == []


@SIZES
async def test_an_agent_that_cannot_be_started_is_said(
    service: ScriptedService, size: tuple[int, int]
) -> None:
    errors: list[VmRedirError] = [AgentGone("no agent is running")]

    async def before() -> None:
        if errors:
            raise errors.pop()

    entrance = entrance_to(service, before=before)
    async with running(service, size=size, entrance=entrance) as tui:
        await tui.press("2")
        await tui.sees("✖ No agent", "no agent is running", "ctrl+r: now")
        await tui.press("ctrl+r")
        await tui.sees("smartcard", "● live")


async def test_a_token_that_expires_is_said_and_what_was_known_stays(
    service: ScriptedService,
) -> None:
    async with running(service) as tui:
        await tui.sees("smartcard")
        service.tell_vmis(LoginRequired("the token has expired", hint="Log in with: oc login"))
        await tui.sees("the token has expired", "Log in with: oc login", "smartcard")


async def test_text_of_the_cluster_is_no_markup(service: ScriptedService) -> None:
    service.there = [vmi(VmiRef("demo", "[red]x[/]\x1b[2J"), "[b]slot", node="no\nde")]
    async with running(service) as tui:
        await tui.sees("[red]x[/]\\x1b[2J", "[b]slot", "no\\nde")
