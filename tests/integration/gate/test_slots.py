"""Several redirections of one VM, before and after a migration."""

from __future__ import annotations

import pytest

from kubectl_vmredir.lab.cluster import Lab
from tests.support.programs import a_desk, a_program

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_redirections_of_one_vm_are_dialed_in_slot_order_after_a_migration(lab: Lab) -> None:
    async with a_desk(lab, "four") as desk, a_program(lab, "K1", "K2", "K3", "K4") as program:
        for serial, slot in (("K1", "a"), ("K2", "b"), ("K3", "c"), ("K4", "d")):
            await program.plug_in(serial, desk, slot)
        before = desk.traces
        assert before.plugged == [("1-1", "K1"), ("1-2", "K2"), ("1-3", "K3"), ("1-4", "K4")]

        for _ in range(2):
            assert await (await lab.migrate(desk.ref)).finished()
            await desk.has("K1", "K2", "K3", "K4")

            assert desk.traces.plugged == before.plugged


async def test_two_users_share_a_vm_and_both_devices_come_back(lab: Lab) -> None:
    async with (
        a_desk(lab, "shared") as desk,
        a_program(lab, "ALICE") as alice,
        a_program(lab, "ADMIN", user="admin") as admin,
    ):
        hers = await alice.plug_in("ALICE", desk, "a")
        theirs = await admin.plug_in("ADMIN", desk, "b")

        assert await (await lab.migrate(desk.ref)).finished()

        await desk.has("ALICE", "ADMIN")
        for program, redirection in ((alice, hers), (admin, theirs)):
            assert (await program.status(redirection)).numbers.migrations_survived == 1
        await alice.service.unbind(hers)
        await desk.has("ADMIN")
