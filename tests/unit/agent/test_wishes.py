from __future__ import annotations

import asyncio
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubectl_vmredir.agent.access import Access, AccessKey
from kubectl_vmredir.agent.server import AgentServer
from kubectl_vmredir.agent.wishes import SCHEMA, Wishes, WishesOf
from kubectl_vmredir.bootstrap import Options
from kubectl_vmredir.errors import AgentError, ClusterUnreachable, LoginRequired
from kubectl_vmredir.model import DeviceSelector, Identity, RedirectionId
from kubectl_vmredir.service.interface import BindRequest
from kubectl_vmredir.service.kept import KeptWish
from kubectl_vmredir.service.ports import VmiSeen
from kubectl_vmredir.service.safety import Consent
from kubectl_vmredir.service.wish import Wish
from tests.support.agent_world import NOBODY, Worlds, client_of, serving, wishes_in
from tests.support.fake_cluster import ALICE, running
from tests.support.fake_usb import FakeDevices, device
from tests.support.service_world import FEDORA, STICK
from tests.support.virtual_clock import after, at_rest
from tests.support.wire_values import JSON, values

KEY = AccessKey(Options(context="prod", user="alice"), "/home/alice/config", "")
KEPT = KeptWish(
    Wish(RedirectionId("r3"), STICK, "ACME Stick", FEDORA, "key", 1),
    Identity("alice", "1000"),
    Consent(force=True),
)
REQUEST = BindRequest(STICK, FEDORA)


# -- the file ---------------------------------------------------------------------------------


async def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    wishes = wishes_in(tmp_path)
    await wishes.put(KEY, (KEPT,))

    again = wishes_in(tmp_path)

    assert again.load() == (WishesOf(KEY, (KEPT,)),)
    assert again.of(KEY) == (KEPT,)


async def test_what_is_paused_and_what_waits_for_its_vm_is_read_again(tmp_path: Path) -> None:
    paused = replace(KEPT, paused=True, confirmed=True)
    waits = replace(KEPT, wish=replace(KEPT.wish, id=RedirectionId("r4"), slot="", slot_index=None))
    await wishes_in(tmp_path).put(KEY, (paused, waits))

    assert wishes_in(tmp_path).load() == (WishesOf(KEY, (paused, waits)),)


async def test_file_of_a_program_that_knew_no_pause_is_read(tmp_path: Path) -> None:
    await wishes_in(tmp_path).put(KEY, (KEPT,))
    written = json.loads((tmp_path / "wishes").read_text())
    for name in ("paused", "confirmed"):
        del written["redirections"][0]["wishes"][0][name]
    (tmp_path / "wishes").write_text(json.dumps(written))

    assert wishes_in(tmp_path).load() == (WishesOf(KEY, (KEPT,)),)


async def test_file_is_written_by_a_thread_and_for_this_user_only(tmp_path: Path) -> None:
    wishes = Wishes(tmp_path / "wishes")

    await wishes.put(KEY, (KEPT,))

    assert stat.S_IMODE((tmp_path / "wishes").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["wishes"]


async def test_what_is_not_wanted_any_more_is_not_in_the_file(tmp_path: Path) -> None:
    wishes = wishes_in(tmp_path)
    await wishes.put(KEY, (KEPT,))

    await wishes.put(KEY, ())

    assert json.loads((tmp_path / "wishes").read_text()) == {"schema": SCHEMA, "redirections": []}


async def test_token_is_not_written(tmp_path: Path) -> None:
    key = replace(KEY, options=Options(token="s3cret", context="prod"))
    wishes = wishes_in(tmp_path)

    await wishes.put(key, (KEPT,))

    assert "s3cret" not in (tmp_path / "wishes").read_text()
    assert wishes.of(key) == (KEPT,)


async def test_variables_of_the_shell_are_not_written(tmp_path: Path) -> None:
    access = Access(Options(), {"AWS_SECRET_ACCESS_KEY": "s3cret", "KUBECONFIG": "/k"})

    await wishes_in(tmp_path).put(access.key, (KEPT,))

    text = (tmp_path / "wishes").read_text()
    assert "s3cret" not in text
    assert "/k" in text


async def test_wishes_that_are_the_same_are_not_written_again(tmp_path: Path) -> None:
    wishes = wishes_in(tmp_path)
    await wishes.put(KEY, (KEPT,))
    (tmp_path / "wishes").unlink()

    await wishes.put(KEY, (KEPT,))

    assert not (tmp_path / "wishes").exists()


async def test_wishes_that_could_not_be_written_are_written_the_next_time(tmp_path: Path) -> None:
    wishes = Wishes(tmp_path / "state" / "wishes")
    with pytest.raises(AgentError, match="No such file"):
        await wishes.put(KEY, (KEPT,))

    (tmp_path / "state").mkdir()
    await wishes.put(KEY, (KEPT,))

    assert Wishes(tmp_path / "state" / "wishes").load() == (WishesOf(KEY, (KEPT,)),)


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1}', '{"schema": "1", "redirections": []}'])
def test_broken_file_is_kept_aside_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    (tmp_path / "wishes").write_text(text)

    assert wishes_in(tmp_path).load() == ()

    assert (tmp_path / "wishes.broken-7").read_text() == text
    assert "what was bound is not known" in caplog.text
    assert "wishes.broken-7" in caplog.text


def test_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "wishes").write_text('{"schema": 2, "wishes": 7}')

    with pytest.raises(AgentError, match="written by a newer version"):
        wishes_in(tmp_path).load()

    assert (tmp_path / "wishes").exists()


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_file_is_read_or_kept_aside(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "wishes").write_bytes(data)

    assert wishes_in(tmp_path).load() == ()


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=values(AccessKey), kept=values(KeptWish))
def test_every_wish_comes_back_from_the_disk(
    tmp_path: Path, key: AccessKey, kept: KeptWish
) -> None:
    key = replace(key, options=replace(key.options, token=None))
    wishes = wishes_in(tmp_path)

    wishes._write({key: WishesOf(key, (kept,))})

    assert wishes_in(tmp_path).load() == (WishesOf(key, (kept,)),)


# -- the agent --------------------------------------------------------------------------------


def wanted(folder: Path) -> list[str]:
    """Return the ids of what is wanted, by the file."""
    return [kept.wish.id for one in wishes_in(folder).load() for kept in one.wishes]


def agent(worlds: Worlds, folder: Path) -> AgentServer:
    return AgentServer(worlds, wishes_in(folder))


async def test_bind_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    async with serving(agent(Worlds(), tmp_path)) as path, client_of(path) as client:
        bound = await client.bind(REQUEST)

        assert wanted(tmp_path) == [bound]


async def test_bind_that_cannot_be_written_down_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "wishes.new").mkdir()
    async with serving(agent(Worlds(), tmp_path)) as path, client_of(path) as client:
        with pytest.raises(AgentError, match="cannot write"):
            await client.bind(REQUEST)


async def test_agent_goes_on_with_what_was_wanted_from_the_one_before(tmp_path: Path) -> None:
    async with serving(agent(Worlds(), tmp_path)) as path, client_of(path) as client:
        bound = await client.bind(REQUEST)

    worlds = Worlds()
    async with serving(agent(worlds, tmp_path)) as path:
        await at_rest()

        (world,) = worlds.open
        assert await world.state(bound) == "connected"
        assert (await world.status(bound)).slot == "flash"
        async with client_of(path) as client:
            (view,) = (await client.snapshot()).redirections
            assert view.status.id == bound


async def test_redirection_that_is_gone_on_with_lends_its_id_to_no_other(tmp_path: Path) -> None:
    worlds = Worlds()
    worlds.devices = lambda: FakeDevices(device(), device("STICK2", address=5, port="1-5"))
    async with serving(agent(worlds, tmp_path)) as path, client_of(path) as client:
        bound = await client.bind(REQUEST)

    async with serving(agent(worlds, tmp_path)) as path, client_of(path) as client:
        other = await client.bind(replace(REQUEST, device=DeviceSelector(serial="STICK2")))

        assert other != bound
        assert wanted(tmp_path) == [bound, other]


async def test_stop_ends_nothing_that_is_wanted(tmp_path: Path) -> None:
    async with serving(agent(Worlds(), tmp_path)) as path, client_of(path) as client:
        bound = await client.bind(REQUEST)
        await client.stop()
        await after(1)

    assert wanted(tmp_path) == [bound]


async def test_what_is_unbound_is_not_wanted_any_more(tmp_path: Path) -> None:
    async with serving(agent(Worlds(), tmp_path)) as path, client_of(path) as client:
        await client.unbind(await client.bind(REQUEST))

        assert wanted(tmp_path) == []


async def test_what_is_to_be_unbound_when_the_gate_opens_is_not_wanted_any_more(
    tmp_path: Path,
) -> None:
    worlds = Worlds()
    async with serving(agent(worlds, tmp_path)) as path:
        async with client_of(path) as client:
            bound = await client.bind(REQUEST)
            await at_rest()
            worlds.open[0].migration().go_to("copying")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await client.unbind(bound)

        assert worlds.open[0].link.open
        assert wanted(tmp_path) == []


async def test_vm_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    async with serving(agent(Worlds(), tmp_path)) as path, client_of(path) as client:
        bound = await client.bind(REQUEST)

    worlds = Worlds()
    worlds.vmis = (running("another"),)
    async with serving(agent(worlds, tmp_path)):
        await after(60)
        (world,) = worlds.open
        assert await world.state(bound) == "holding"

        world.cluster.tell(VmiSeen(running()))
        await after(20)
        assert await world.state(bound) == "connected"


async def test_device_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    async with serving(agent(Worlds(), tmp_path)) as path, client_of(path) as client:
        bound = await client.bind(REQUEST)

    worlds = Worlds()
    worlds.devices = FakeDevices
    async with serving(agent(worlds, tmp_path)):
        await after(60)
        (world,) = worlds.open
        assert await world.state(bound) == "waiting-device"

        world.devices.plug(device())
        await after(20)
        assert await world.state(bound) == "connected"


async def test_another_user_does_not_go_on_with_it(tmp_path: Path) -> None:
    async with serving(agent(Worlds(), tmp_path)) as path, client_of(path) as client:
        bound = await client.bind(REQUEST)

    worlds = Worlds()
    worlds.me = Identity("mallory", "2000")
    async with serving(agent(worlds, tmp_path)):
        await after(5)

        status = await worlds.open[0].status(bound)
        assert status.state == "blocked"
        assert status.trouble is not None
        assert status.trouble.kind == "IdentityChanged"
        assert ALICE.username in status.reason


async def test_who_we_are_is_asked_again_until_the_cluster_answers(tmp_path: Path) -> None:
    async with serving(agent(Worlds(), tmp_path)) as path, client_of(path) as client:
        bound = await client.bind(REQUEST)

    worlds = Worlds()
    worlds.me = ClusterUnreachable("no network yet")
    async with serving(agent(worlds, tmp_path)):
        await after(60)
        (world,) = worlds.open
        status = await world.status(bound)
        assert (status.state, status.reason) == ("holding", "no network yet")
        assert world.devices.hosts == []

        world.cluster.me = ALICE
        await after(20)
        assert await world.state(bound) == "connected"


async def test_user_who_must_log_in_first_is_told_so(tmp_path: Path) -> None:
    async with serving(agent(Worlds(), tmp_path)) as path, client_of(path) as client:
        bound = await client.bind(REQUEST)

    worlds = Worlds()
    worlds.me = LoginRequired("the token has expired", hint="Log in again.")
    async with serving(agent(worlds, tmp_path)):
        await after(60)
        (world,) = worlds.open
        status = await world.status(bound)
        assert status.state == "blocked"
        assert status.trouble is not None
        assert status.trouble.hint == "Log in again."

        world.cluster.me = ALICE
        await after(130)
        assert await world.state(bound) == "connected"


async def test_service_that_cannot_be_opened_yet_is_tried_again(tmp_path: Path) -> None:
    async with serving(agent(Worlds(), tmp_path)) as path, client_of(path) as client:
        bound = await client.bind(REQUEST)

    worlds = Worlds()
    worlds.refusal = ClusterUnreachable("no network yet")
    async with serving(agent(worlds, tmp_path)) as path:
        await after(120)
        async with client_of(path, None) as client:
            with pytest.raises(ClusterUnreachable, match="no network yet"):
                await client.open(NOBODY)
        assert wanted(tmp_path) == [bound]

        worlds.refusal = None
        await after(20)
        assert await worlds.open[0].state(bound) == "connected"


async def test_bind_of_another_cluster_is_gone_on_with_as_well(tmp_path: Path) -> None:
    other = Access(Options(context="other"), {"KUBECONFIG": "/k"})
    async with (
        serving(agent(Worlds(), tmp_path)) as path,
        client_of(path) as one,
        client_of(path, other) as two,
    ):
        await one.bind(REQUEST)
        await two.bind(REQUEST)

    worlds = Worlds()
    async with serving(agent(worlds, tmp_path)):
        await at_rest()

        assert [len(await world.all()) for world in worlds.open] == [1, 1]
        assert [seen.get("KUBECONFIG") for seen in worlds.seen] == [None, "/k"]
