"""Which redirections a command is for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kubectl_vmredir.agent.control import Overview, ServiceId, ServiceOverview
from kubectl_vmredir.bootstrap import Options
from kubectl_vmredir.cli.targets import meant, place, target, the_one, within
from kubectl_vmredir.errors import UsageError
from kubectl_vmredir.model import RedirectionId, VmiRef
from tests.support.scripted_service import FEDORA, STICK, TOKEN, WIN11, redirection

ALICE = ServiceOverview(
    ServiceId("s1"), "lab", "https://lab", "alice",
    (
        redirection(STICK, FEDORA, "flash", number=1),
        redirection(TOKEN, WIN11, "smartcard", number=2),
        replace(redirection(number=3), device="0951:1666:FLASH002", vmi=VmiRef("test", "fedora")),
    ),
)  # fmt: skip
BOB = ServiceOverview(
    ServiceId("s2"), "prod", "https://prod", "bob",
    (replace(redirection(STICK, VmiRef("demo", "r2"), "", number=1)),),
)  # fmt: skip
ALL = within(Overview((ALICE, BOB)), Options())


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("r2", ["s1/r2"]),  # the id, and not the VM of that name
        ("vm/r2", ["s2/r1"]),
        ("r1", ["s1/r1", "s2/r1"]),
        ("fedora", ["s1/r1", "s1/r3"]),
        ("vmi/win11/smartcard", ["s1/r2"]),
        ("0951:1666", ["s1/r1", "s1/r3", "s2/r1"]),
        ("0951:1666:FLASH002", ["s1/r3"]),
        ("port:1-2.1", ["s1/r2"]),
    ],
)
async def test_a_target_means_all_that_it_may_stand_for(text: str, found: list[str]) -> None:
    assert ["/".join(one.key) for one in await meant(text, ALL)] == found


@pytest.mark.parametrize("text", ["r9", "fedora/token", "9999:0001", "1-7", "port:9-9"])
async def test_a_target_that_means_nothing_is_refused_with_what_there_is(text: str) -> None:
    with pytest.raises(UsageError, match="nothing that is bound is") as refused:
        await meant(text, ALL)

    assert refused.value.hint is not None
    assert "  r2: port:1-2.1, VM demo/win11, slot smartcard (context lab)" in refused.value.hint


async def test_what_means_nothing_where_nothing_is_bound_says_that() -> None:
    with pytest.raises(UsageError) as refused:
        await meant("fedora", [])

    assert refused.value.hint == "No redirections."


async def test_the_one_is_named_by_its_id_or_where_that_is_not_enough_by_its_context() -> None:
    assert (await the_one("win11", ALL)).status.id == RedirectionId("r2")
    with pytest.raises(UsageError, match="fedora means 2 redirections") as by_id:
        await the_one("fedora", ALL)
    with pytest.raises(UsageError, match="r1 means 2 redirections") as by_context:
        await the_one("r1", ALL)

    assert (by_id.value.hint or "").startswith("Name one of them by its ID:\n  r1: ")
    assert (by_context.value.hint or "").startswith("Name one of them, and its --context:\n")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (Options(context="prod"), ["s2/r1"]),
        (Options(user="alice", namespace="test"), ["s1/r3"]),
        (Options(server="https://prod"), ["s2/r1"]),
        (Options(lab=True), ["s1/r1", "s1/r2", "s1/r3", "s2/r1"]),
        (Options(context="gone"), []),
    ],
)
def test_flags_narrow_it_down(options: Options, found: list[str]) -> None:
    bound = within(Overview((ALICE, BOB)), options)

    assert ["/".join(one.key) for one in bound] == found


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        (Options(kubeconfig="x"), "--kubeconfig"),
        (Options(cluster="x"), "--cluster"),
        (Options(token="x"), "--token"),
        (Options(impersonate_groups=("x",)), "--as"),
    ],
)
def test_a_flag_that_cannot_narrow_it_down_is_not_ignored(options: Options, flag: str) -> None:
    with pytest.raises(UsageError, match=f"cannot be narrowed by {flag}"):
        within(Overview((ALICE, BOB)), options)


def test_a_slot_that_is_not_known_yet_is_not_named() -> None:
    assert (place(FEDORA, "flash"), place(FEDORA, "")) == (
        "VM demo/fedora, slot flash",
        "VM demo/fedora",
    )
    assert (target(FEDORA, "flash"), target(FEDORA, "")) == ("fedora/flash", "fedora")
