"""Two users of a lab: one whose credential plugin has a token always, and one who must log in."""

from __future__ import annotations

import base64
import enum
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kubectl_vmredir.lab.api.auth import authenticated
from kubectl_vmredir.lab.api.rbac import Binding, SubjectKind
from kubectl_vmredir.lab.api.roles import DEMO, EDIT
from kubectl_vmredir.lab.api.server import ApiServer

_EXEC_API: Final = "client.authentication.k8s.io/v1"
_PLUGIN: Final = 'echo >> "$1"; exec cat "$2"'


class Account(enum.StrEnum):
    """A user, and the context of the kubeconfig for it."""

    ROBOT = "robot"
    PERSON = "person"


class Accounts:
    """The credentials of the two, in files.

    Attributes:
        kubeconfig: With a context for each; there is no token in it.
        secrets: All tokens that they ever had.

    Args:
        api: Whose users they are.
        folder: For the files.
        ports: Where the API server can be reached by each of them.
    """

    def __init__(self, api: ApiServer, folder: Path, ports: Mapping[Account, int]) -> None:
        self.kubeconfig = folder / "kubeconfig"
        self.secrets: list[str] = []
        self._tokens = api.tokens
        self._credential = folder / "credential"
        self._token = folder / "token"
        self._runs = folder / "runs"
        self._runs.touch()
        for account in Account:
            api.rbac.bindings.append(Binding(account, EDIT, SubjectKind.USER, account, DEMO))
            api.tokens.issue(authenticated(account, uid=account))
            self.renew(account)
        self.kubeconfig.write_text(json.dumps(self._config(api, ports)))

    def expire(self, account: Account) -> None:
        """Have the cluster take the token of a user no longer."""
        self._tokens.expire(account)

    def renew(self, account: Account) -> None:
        """Let the plugin have a new token, and the one before expire; or let a person log in."""
        token = self._tokens.renew(account)
        self.secrets.append(token)
        match account:
            case Account.ROBOT:
                credential = {
                    "apiVersion": _EXEC_API,
                    "kind": "ExecCredential",
                    "status": {"token": token},
                }
                _replace(self._credential, json.dumps(credential))
            case Account.PERSON:
                _replace(self._token, token)

    @property
    def plugin_runs(self) -> int:
        """How often the plugin was run."""
        return len(self._runs.read_text())

    def _config(self, api: ApiServer, ports: Mapping[Account, int]) -> dict[str, object]:
        authority = base64.b64encode(api.ca_pem.encode()).decode()
        users = {
            Account.ROBOT: {
                "exec": {
                    "apiVersion": _EXEC_API,
                    "command": "sh",
                    "args": ["-c", _PLUGIN, "plugin", str(self._runs), str(self._credential)],
                    "interactiveMode": "Never",
                }
            },
            Account.PERSON: {"tokenFile": str(self._token)},
        }
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": account,
                    "cluster": {
                        "server": f"https://127.0.0.1:{ports[account]}",
                        "certificate-authority-data": authority,
                    },
                }
                for account in Account
            ],
            "users": [{"name": account, "user": users[account]} for account in Account],
            "contexts": [
                {
                    "name": account,
                    "context": {"cluster": account, "user": account, "namespace": DEMO},
                }
                for account in Account
            ],
        }


def _replace(path: Path, text: str) -> None:
    """Write a file, of which nobody ever sees a half."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(text)
    draft.replace(path)
