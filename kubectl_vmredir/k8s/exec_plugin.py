"""Runs a credential plugin of the kubeconfig.

Source: Kubernetes, "Authenticating", client-go credential plugins (client.authentication.k8s.io).
The plugin gets no terminal: it would fight over the screen with us.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import shlex
import signal
from asyncio.subprocess import Process
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.errors import KubeconfigError, LoginRequired
from kubectl_vmredir.k8s.objects import printable
from kubectl_vmredir.k8s.tls import CertificatePair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, ExecPlugin
    from kubectl_vmredir.k8s.objects import JsonObject

_TIMEOUT_S: Final = 60.0
"""A plugin may have to ask somebody far away; one that waits for a person waits for ever."""
_MAX_OUTPUT_BYTES: Final = 1 << 20
_MOST_NAMES: Final = 8
_VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")

_FLAG: Final = re.compile(r"-[A-Za-z]|--[A-Za-z][A-Za-z0-9-]*")


@dataclass(frozen=True, slots=True)
class ExecCredential:
    """What a plugin printed.

    Attributes:
        token: Bearer token, empty if it gave none.
        certificate: Client certificate, None if it gave none.
        expires: When to run it again; None for when the cluster says 401.
    """

    token: str = field(repr=False)
    certificate: CertificatePair | None
    expires: datetime | None


async def run_exec_plugin(
    plugin: ExecPlugin, config: ClusterConfig, *, timeout_s: float = _TIMEOUT_S
) -> ExecCredential:
    """Run a plugin and return its credential; the process is gone when this returns.

    Raises:
        KubeconfigError: If it cannot be run, or prints something else than a credential.
        LoginRequired: If it fails, takes too long, or needs a person.
    """
    command = [plugin.command, *plugin.args]
    shown = _shown(plugin)
    if plugin.api_version not in _VERSIONS:
        raise KubeconfigError(
            f"the credential plugin {shown} speaks {plugin.api_version!r}, which we do not"
        )
    if plugin.interactive:
        raise LoginRequired(
            f"the credential plugin {shown} needs a terminal",
            hint=f"Use a user of the kubeconfig that needs none, or one that logs in with: {shown}",
        )
    info = json.dumps(_exec_info(plugin, config))
    environ = {**config.environ, **plugin.env, "KUBERNETES_EXEC_INFO": info}
    try:
        status, output, complaint = await _run(command, environ, timeout_s)
    except TimeoutError as exc:
        raise LoginRequired(
            f"the credential plugin {shown} did not finish in {timeout_s:g} s",
            hint=f"It may wait for you to log in. {_by_hand(shown, config)}",
        ) from exc
    except OSError as exc:
        raise KubeconfigError(
            f"cannot run the credential plugin {plugin.command}: {exc.strerror}",
            hint=printable(plugin.install_hint) or None,
        ) from exc
    if status != 0:
        raise LoginRequired(
            f"the credential plugin {plugin.command} failed ({status}): {_last_line(complaint)}",
            hint=_by_hand(shown, config),
        )
    return _parse(output, plugin)


def _shown(plugin: ExecPlugin) -> str:
    """Return the command for people, without its values: any of them may be a secret."""
    return printable(" ".join([shlex.quote(plugin.command), *map(_without_value, plugin.args)]))


def _by_hand(shown: str, config: ClusterConfig) -> str:
    hint = f"Try it by hand, as it stands in the kubeconfig: {shown}"
    if absent := [name for name in config.expected if name not in config.environ]:
        names = ", ".join(absent[:_MOST_NAMES]) + (", ..." if len(absent) > _MOST_NAMES else "")
        hint += (
            f"\nIt may need variables that the shell had where the device was bound: {names}. Run "
            "any command for this cluster in such a shell, for instance: kubectl vmredir slots"
        )
    return hint


def _without_value(arg: str) -> str:
    flag, equals, _ = arg.partition("=")
    return f"{flag}{equals and '=...'}" if _FLAG.fullmatch(flag) else "..."


def _exec_info(plugin: ExecPlugin, config: ClusterConfig) -> JsonObject:
    spec: JsonObject = {"interactive": False}
    if plugin.provide_cluster_info:
        cluster: JsonObject = {"server": config.server, "config": config.exec_config}
        if config.tls_server_name:
            cluster["tls-server-name"] = config.tls_server_name
        if config.insecure:
            cluster["insecure-skip-tls-verify"] = True
        if config.ca is not None:
            cluster["certificate-authority-data"] = base64.b64encode(config.ca).decode("ascii")
        if config.proxy_url:
            cluster["proxy-url"] = config.proxy_url
        spec["cluster"] = cluster
    return {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}


async def _run(
    command: list[str], environ: Mapping[str, str], timeout_s: float
) -> tuple[int, bytes, bytes]:
    async with asyncio.TaskGroup() as group:
        # Cancelled half done, it would kill the program only, and wait for its children.
        starting = group.create_task(_start(command, environ), name="exec-plugin-start")
        try:
            process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            if isinstance(process := await starting, Process):
                await _kill(process)
            raise
    if isinstance(process, OSError):
        raise process
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(timeout_s), asyncio.TaskGroup() as group:
            output = group.create_task(_read(process.stdout), name="exec-plugin-stdout")
            complaint = group.create_task(_read(process.stderr), name="exec-plugin-stderr")
            status = await process.wait()
    finally:
        if process.returncode is None:
            await _kill(process)
    return status, output.result(), complaint.result()


async def _start(command: Sequence[str], environ: Mapping[str, str]) -> Process | OSError:
    """Start a program; an error is expected, and is a result: raised, it would end the group."""
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environ,
            start_new_session=True,  # no terminal to ask on, and its children end with it
        )
    except OSError as exc:
        return exc


async def _kill(process: Process) -> None:
    """Kill a program and its children, and wait for the end of it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _read(stream: asyncio.StreamReader) -> bytes:
    """Read to the end, keep the beginning."""
    kept = bytearray()
    while chunk := await stream.read(1 << 16):
        kept += chunk[: _MAX_OUTPUT_BYTES - len(kept)]
    return bytes(kept)


def _last_line(complaint: bytes) -> str:
    lines = complaint.decode(errors="replace").strip().splitlines()
    return printable(lines[-1]) if lines else "it said nothing"


def _parse(output: bytes, plugin: ExecPlugin) -> ExecCredential:
    # Nothing of the output is shown: it may be a token.
    broken = KubeconfigError(
        f"the credential plugin {plugin.command} printed no ExecCredential of {plugin.api_version}"
    )
    try:
        found = json.loads(output)
    except ValueError:
        raise broken from None
    match found:
        case {"apiVersion": plugin.api_version, "kind": "ExecCredential", "status": dict(status)}:
            pass
        case _:
            raise broken
    pair: CertificatePair | None = None
    match status:
        case {"clientCertificateData": str(certificate), "clientKeyData": str(key)}:
            pair = CertificatePair(certificate.encode(), key.encode())
        case _:
            pass
    token = status.get("token", "")
    if not isinstance(token, str) or (not token and pair is None):
        raise broken
    return ExecCredential(token, pair, _expiry(status.get("expirationTimestamp")))


def _expiry(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
