"""``slots name``: the names of the slots of a VM."""

from __future__ import annotations

import pytest

from kubectl_vmredir.errors import ExitCode
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.objects import Collection
from kubectl_vmredir.model import VmiRef
from tests.support.commands import Cli

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMELESS = VmiRef("demo", "nameless")


async def test_names_are_on_the_vm_and_on_the_template_that_it_is_started_from(
    cli: Cli, lab: Lab
) -> None:
    await lab.create_vm(NAMELESS)
    await lab.wait_running(NAMELESS)

    named = await cli("slots", "name", "nameless", "flash,token")
    listed = await cli("slots", "nameless", "-o", "name")

    assert named.out == "slots of demo/nameless named: flash, token\n"
    assert [row[0].partition("/")[2] for row in listed.rows] == ["flash", "token", "usb2", "usb3"]
    vm = await lab.client.get(f"{Collection.VMS.of('demo')}/nameless")
    annotations = vm["spec"]["template"]["metadata"]["annotations"]
    assert annotations["vmredir.io/slots"] == "flash,token"


async def test_what_cannot_be_a_name_is_refused(cli: Cli) -> None:
    refused, nobody, missing = await cli.each(
        "slots name desk Flash", "slots name nobody flash", "slots name desk"
    )

    assert refused.status == ExitCode.USAGE
    assert "error: 'Flash' is not a DNS label" in refused.err
    assert nobody.status == ExitCode.CLUSTER
    assert "no running VM 'nobody'" in nobody.err
    assert missing.status == ExitCode.USAGE
