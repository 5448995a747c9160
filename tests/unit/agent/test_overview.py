"""All that the agent is at work with, and its end where there is no service to end it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubectl_vmredir.agent.access import Access
from kubectl_vmredir.agent.control import Overview, ServiceId
from kubectl_vmredir.agent.server import AgentServer
from kubectl_vmredir.agent.services import OVERVIEW_INTERVAL_S
from kubectl_vmredir.bootstrap import Options
from kubectl_vmredir.errors import AgentError, KubeconfigError, RedirectionNotFound
from kubectl_vmredir.model import RedirectionId
from kubectl_vmredir.service.interface import BindRequest
from tests.support.agent_world import NOBODY, Worlds, client_of, serving, wishes_in
from tests.support.service_world import FEDORA, STICK
from tests.support.virtual_clock import after, at_rest

REQUEST = BindRequest(STICK, FEDORA)
OTHERS = Access(Options(context="other", user="bob"), {})


def agent(worlds: Worlds, folder: Path) -> AgentServer:
    return AgentServer(worlds, wishes_in(folder))


def shown(overview: Overview) -> list[tuple[str, str, str]]:
    """Return service, redirection and state of all that is bound."""
    return [
        (service.id, status.id, status.state)
        for service in overview.services
        for status in service.redirections
    ]


async def bound_before(folder: Path, access: Access = NOBODY) -> RedirectionId:
    """Have an agent bind, and end."""
    async with serving(agent(Worlds(), folder)) as path, client_of(path, access) as client:
        return await client.bind(REQUEST)


async def test_overview_tells_of_all_services_and_chooses_none(tmp_path: Path) -> None:
    async with (
        serving(agent(Worlds(), tmp_path)) as path,
        client_of(path) as one,
        client_of(path, OTHERS) as two,
        client_of(path, None) as looking,
    ):
        await one.bind(REQUEST)
        await two.bind(REQUEST)
        await at_rest()

        overview = await looking.overview()

        assert shown(overview) == [("s1", "r1", "connected"), ("s2", "r1", "connected")]
        with pytest.raises(AgentError, match="no service has been chosen"):
            await looking.snapshot()


async def test_service_of_the_overview_is_adopted_with_the_variables_that_it_has(
    tmp_path: Path,
) -> None:
    worlds = Worlds()
    mine = Access(Options(), {"TICKET": "mine"})
    async with (
        serving(agent(worlds, tmp_path)) as path,
        client_of(path, mine) as owner,
        client_of(path, None) as other,
    ):
        bound = await owner.bind(REQUEST)
        (service,) = (await other.overview()).services

        await other.adopt(service.id)

        assert [view.status.id for view in (await other.snapshot()).redirections] == [bound]
        assert worlds.seen == [{"TICKET": "mine"}]


async def test_service_that_is_not_there_is_not_adopted(tmp_path: Path) -> None:
    async with serving(agent(Worlds(), tmp_path)) as path, client_of(path, None) as client:
        with pytest.raises(AgentError, match="no service 's9'"):
            await client.adopt(ServiceId("s9"))


async def test_service_that_cannot_be_opened_blocks_what_is_wanted_of_it(tmp_path: Path) -> None:
    bound = await bound_before(tmp_path, OTHERS)
    worlds = Worlds()
    worlds.refusal = KubeconfigError("no context 'other'", hint="Make one.")

    async with serving(agent(worlds, tmp_path)) as path, client_of(path, None) as client:
        await at_rest()
        (service,) = (await client.overview()).services

        assert service.trouble is not None
        assert (service.context, service.user) == ("other", "bob")
        (status,) = service.redirections
        assert (status.id, status.state, status.slot) == (bound, "blocked", "flash")
        assert (status.vmi, status.reason) == (FEDORA, "no context 'other'")
        assert status.trouble == service.trouble


async def test_what_a_service_that_cannot_be_opened_should_do_can_be_forgotten(
    tmp_path: Path,
) -> None:
    bound = await bound_before(tmp_path)
    worlds = Worlds()
    worlds.refusal = KubeconfigError("no context")
    async with serving(agent(worlds, tmp_path)) as path, client_of(path, None) as client:
        await at_rest()
        (service,) = (await client.overview()).services

        with pytest.raises(RedirectionNotFound):
            await client.forget(service.id, RedirectionId("r9"))
        await client.forget(service.id, bound)

        assert wishes_in(tmp_path).load() == ()
        await after(120)
        assert (await client.overview()).services == ()


async def test_what_a_service_is_at_work_with_is_ended_when_it_is_forgotten(
    tmp_path: Path,
) -> None:
    worlds = Worlds()
    async with serving(agent(worlds, tmp_path)) as path, client_of(path) as client:
        bound = await client.bind(REQUEST)
        await at_rest()
        (service,) = (await client.overview()).services

        await client.forget(service.id, bound)

        assert worlds.open[0].link.closes == 1
        assert wishes_in(tmp_path).load() == ()


async def test_who_watches_the_overview_hears_of_many_changes_as_one(tmp_path: Path) -> None:
    async with (
        serving(agent(Worlds(), tmp_path)) as path,
        client_of(path, None) as looking,
        looking.watch_overview() as overviews,
    ):
        assert shown(await anext(overviews)) == []
        async with client_of(path) as client:
            bound = await client.bind(REQUEST)
            await at_rest()
            await after(2 * OVERVIEW_INTERVAL_S)
            heard = [shown(await anext(overviews))]
            while heard[-1] != [("s1", bound, "connected")]:
                heard.append(shown(await anext(overviews)))

            await client.unbind(bound)

        assert len(heard) <= 2
        while shown(await anext(overviews)):
            pass


async def test_overview_that_did_not_change_is_not_told_again(tmp_path: Path) -> None:
    async with (
        serving(agent(Worlds(), tmp_path)) as path,
        client_of(path) as client,
        client_of(path, None) as looking,
        looking.watch_overview() as overviews,
    ):
        await client.bind(REQUEST)
        told = await anext(overviews)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                while (again := await anext(overviews)) != told:
                    told = again
