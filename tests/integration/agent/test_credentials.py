"""Credentials of a redirection that outlives the shell it was bound in: a credential plugin."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from kubectl_vmredir.agent.client import AgentClient
from kubectl_vmredir.agent.places import Places
from kubectl_vmredir.lab.cluster import Lab
from kubectl_vmredir.model import DeviceSelector, RedirectionState, VmiRef
from kubectl_vmredir.service.interface import BindRequest
from tests.support.agent_process import client_for, reaches

pytestmark = pytest.mark.asyncio(loop_scope="module")

STICK: Final = DeviceSelector.parse("1209:0001:FLASH001")
API: Final = "client.authentication.k8s.io/v1"
PROFILE: Final = {"CORP_PROFILE": "value-of-the-profile"}

PLUGIN: Final = """\
#!/bin/sh
echo "${CORP_PROFILE-none}" >> @/runs
[ -e @/session ] || { echo "session expired: run corp login" >&2; exit 1; }
[ -n "$CORP_PROFILE" ] || { echo "no profile" >&2; exit 1; }
cat @/session
"""


@dataclass(frozen=True)
class Login:
    """A user whose credential comes from a plugin.

    Attributes:
        kubeconfig: Names the plugin.
        folder: Where the plugin finds the session of the user.
    """

    kubeconfig: Path
    folder: Path
    token: str

    def log_in(self) -> None:
        """As the person does in a browser; the credential is good for no second use."""
        status = {"token": self.token, "expirationTimestamp": "2020-01-01T00:00:00Z"}
        credential = {"apiVersion": API, "kind": "ExecCredential", "status": status}
        (self.folder / "session").write_text(json.dumps(credential))

    def log_out(self) -> None:
        """As time does."""
        (self.folder / "session").unlink()

    @property
    def runs(self) -> list[str]:
        """The profile that each run of the plugin saw."""
        return (self.folder / "runs").read_text().split()


@pytest.fixture
def login(lab: Lab, tmp_path: Path) -> Login:
    """Alice of the lab, logged in, with a plugin in place of her token."""
    plugin = tmp_path / "corp"
    plugin.write_text(PLUGIN.replace("@", str(tmp_path)))
    plugin.chmod(0o755)
    config: dict[str, Any] = yaml.safe_load(lab.kubeconfig.read_text())
    (alice,) = (entry for entry in config["users"] if entry["name"] == "alice")
    login = Login(tmp_path / "config", tmp_path, alice["user"].pop("token"))
    alice["user"]["exec"] = {
        "apiVersion": API,
        "command": str(plugin),
        "args": ["token"],
        "interactiveMode": "Never",
    }
    login.kubeconfig.write_text(yaml.safe_dump(config))
    login.log_in()
    return login


async def kill(client: AgentClient) -> None:
    """End the agent as a crash does."""
    os.kill((await client.status()).pid, signal.SIGKILL)


async def test_plugin_runs_before_every_dial(lab: Lab, desk: VmiRef, login: Login) -> None:
    async with client_for(login.kubeconfig, environ=PROFILE) as client:
        bound = await client.bind(BindRequest(STICK, desk))
        await reaches(client, bound, RedirectionState.CONNECTED)
        before = len(login.runs)
        login.log_out()

        await client.reconnect(bound)

        status = await reaches(client, bound, RedirectionState.BLOCKED)
        assert status.trouble is not None
        assert "session expired: run corp login" in status.trouble.message
        assert f"{login.folder}/corp" in status.trouble.hint
        assert len(login.runs) > before
        await client.unbind(bound)
        await client.stop()
    assert {*login.runs} == {*PROFILE.values()}


async def test_login_of_the_person_is_waited_for(lab: Lab, desk: VmiRef, login: Login) -> None:
    async with client_for(login.kubeconfig, environ=PROFILE) as client:
        bound = await client.bind(BindRequest(STICK, desk))
        await reaches(client, bound, RedirectionState.CONNECTED)
        login.log_out()
        await kill(client)

    async with client_for(login.kubeconfig, environ=PROFILE) as client:
        status = await reaches(client, bound, RedirectionState.BLOCKED)
        assert status.trouble is not None
        assert "session expired: run corp login" in status.trouble.message
        login.log_in()

        await reaches(client, bound, RedirectionState.CONNECTED)

        await client.unbind(bound)
        await client.stop()


async def test_variables_of_the_shell_that_bound_are_asked_for_by_name_after_a_crash(
    lab: Lab, desk: VmiRef, login: Login
) -> None:
    async with client_for(login.kubeconfig, environ=PROFILE) as client:
        bound = await client.bind(BindRequest(STICK, desk))
        await reaches(client, bound, RedirectionState.CONNECTED)
        await kill(client)
    written = Places.of_user().wishes.read_text()
    assert "CORP_PROFILE" in written
    assert PROFILE["CORP_PROFILE"] not in written

    async with client_for(login.kubeconfig) as elsewhere:
        status = await reaches(elsewhere, bound, RedirectionState.BLOCKED)
        assert status.trouble is not None
        assert "where the device was bound: CORP_PROFILE." in status.trouble.hint

        async with client_for(login.kubeconfig, environ=PROFILE):
            await reaches(elsewhere, bound, RedirectionState.CONNECTED)

        await elsewhere.unbind(bound)
        await elsewhere.stop()


async def test_another_shell_takes_nothing_from_what_is_bound(
    lab: Lab, desk: VmiRef, login: Login
) -> None:
    async with client_for(login.kubeconfig, environ=PROFILE) as client:
        bound = await client.bind(BindRequest(STICK, desk))
        await reaches(client, bound, RedirectionState.CONNECTED)

        async with client_for(login.kubeconfig) as elsewhere:
            await elsewhere.reconnect(bound)
            await elsewhere.vmis("demo")

        await reaches(client, bound, RedirectionState.CONNECTED)
        await client.unbind(bound)
        await client.stop()
    assert {*login.runs} == {*PROFILE.values()}
