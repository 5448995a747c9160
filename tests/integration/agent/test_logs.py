"""What the log of the agent tells, and what it never does."""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Final

import pytest
import yaml

from kubectl_vmredir.agent.places import Places
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.lab.devices.shelf import STICK_BYTES
from kubectl_vmredir.lab.guests.report import PassDone
from kubectl_vmredir.model import DeviceSelector, VmiRef
from kubectl_vmredir.service.interface import BindRequest
from tests.support.agent_process import client_for, guest_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

STICK: Final = DeviceSelector.parse("1209:0001:FLASH001")
PAYLOAD: Final = b"the quick brown payload"
VARIABLE: Final = "5ecret-of-the-shell"
ALL_THERE_IS: Final = 10


def tokens_of(kubeconfig: Path) -> list[str]:
    """Return all tokens that a kubeconfig holds."""
    users = yaml.safe_load(kubeconfig.read_text())["users"]
    return [user["user"]["token"] for user in users if "token" in user["user"]]


def any_form_of(secret: bytes) -> list[bytes]:
    """Return how a secret may look in a log."""
    return [
        secret,
        secret.hex().encode(),
        base64.b64encode(secret)[:-4],
        repr(secret)[2:-1].encode(),
    ]


async def test_log_tells_all_but_secrets_at_the_highest_level(
    lab: Lab, desk: VmiRef, home: Path
) -> None:
    image = home / "XDG_STATE_HOME/kubectl-vmredir/virtual/devices/flash001.img"
    image.parent.mkdir(parents=True, mode=0o700)
    image.write_bytes((PAYLOAD * (STICK_BYTES // len(PAYLOAD) + 1))[:STICK_BYTES])
    environ = {"AWS_SECRET_ACCESS_KEY": VARIABLE}

    async with (
        guest_of(lab, desk) as guest,
        client_for(lab.kubeconfig, verbosity=ALL_THERE_IS, environ=environ) as client,
    ):
        bound = await client.bind(BindRequest(STICK, desk))
        await guest.says(PassDone, 1)
        await client.unbind(bound)
        await client.stop()

    logs = sorted(Places.of_user().log.parent.glob("agent.log*"))
    told = b"".join(log.read_bytes() for log in logs)
    assert {stat.S_IMODE(log.stat().st_mode) for log in logs} == {0o600}
    assert b" D httpcore." in told
    secrets = [token.encode() for token in tokens_of(lab.kubeconfig)]
    assert len(secrets) >= 2
    for secret in [*secrets, PAYLOAD, VARIABLE.encode()]:
        assert [form for form in any_form_of(secret) if form in told] == []


async def test_log_tells_changes_of_state_where_nothing_was_asked_for(
    lab: Lab, desk: VmiRef
) -> None:
    async with client_for(lab.kubeconfig) as client, guest_of(lab, desk) as guest:
        bound = await client.bind(BindRequest(STICK, desk))
        await guest.says(PassDone, 1)
        await client.unbind(bound)
        await client.stop()

    told = Places.of_user().log.read_text()
    assert "connected" in told
    assert " D " not in told
