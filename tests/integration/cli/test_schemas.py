"""What the program prints with ``-o json`` is what its schemas say."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.timeline import Step
from tests.support.commands import Cli
from tests.support.json_schemas import SCHEMAS, validate
from tests.support.programs import a_desk

pytestmark = pytest.mark.asyncio(loop_scope="module")

STICK = "1209:0001:FLASH001"
KEYBOARD = "1209:0002:KEYS001"


async def test_every_document_is_as_its_schema_says(user: Cli, lab: Lab) -> None:
    async with a_desk(lab, "documented") as desk:
        name = desk.ref.name
        bound = await user("bind", "--virtual", KEYBOARD, name, "-o", "json")
        blocked = await user("bind", "--virtual", "--context", "viewer", STICK, name)
        move = await lab.migrate(desk.ref)
        assert await move.finished()
        await desk.streams("0 taken", "0 free", "0 taken")
        move = await lab.migrate(desk.ref, Step.STARTED)
        await move.held(Step.STARTED)

        lines = (
            "agent status", f"bind --virtual --dry-run {STICK} {name}", "devices --virtual",
            "doctor", "events", "slots --virtual", "status", "version",
        )  # fmt: skip
        printed = await user.each(*(f"{line} -o json" for line in lines))
        await move.release()
        assert await move.finished()

    assert blocked.status != 0
    documents = [json.loads(done.out) for done in (bound, *printed)]
    for document in documents:
        validate(document)
    assert {document["kind"] for document in documents} == set(SCHEMAS)


async def test_each_line_of_a_watch_is_an_item_of_the_list(user: Cli, lab: Lab) -> None:
    async with a_desk(lab, "lines") as desk:
        await user("bind", "--virtual", KEYBOARD, desk.ref.name)
        watched = {"status": "RedirectionList", "events": "EventList", "slots": "SlotList"}
        for command, kind in watched.items():
            async with user.start(command, "-w", "-o", "json") as watch:
                line = json.loads(await watch.prints())

            item = SCHEMAS[kind]["properties"]["items"]["items"]
            Draft202012Validator({**item, "$defs": SCHEMAS[kind]["$defs"]}).validate(line)
