"""Who sends a request: bearer tokens, client certificates, nobody; and impersonation.

Source: k8s.io/apiserver/pkg/endpoints/filters/{authentication,impersonation}.go.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from .files import write_private
from .rbac import User, describe
from .requests import RequestInfo
from .roles import (
    ACCOUNTS,
    ANONYMOUS,
    AUTHENTICATED,
    PEOPLE,
    UNAUTHENTICATED,
    service_account_groups,
)
from .status import Subject, bad_request, forbidden, unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from multidict import CIMultiDictProxy

    from .rbac import Rbac

_TOKEN_BYTES: Final = 16
_CREDENTIAL_ID: Final = "authentication.kubernetes.io/credential-id"


def authenticated(name: str, groups: Iterable[str] = (), uid: str = "") -> User:
    """Return a user whose credentials were right."""
    return User(name, uid, (*groups, AUTHENTICATED))


@dataclass(frozen=True, slots=True)
class _Entry:
    user: User
    expires_at: float


class Tokens:
    """Bearer tokens of the lab's users, kept in a file over a restart of the process.

    Args:
        path: Where they are kept, mode 0600.
        now: Clock, seconds since the epoch.
    """

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        self._path = path
        self._now = now
        self._entries: dict[str, _Entry] = {}
        self._current: dict[str, str] = {}
        if path.exists():
            self._load()
        else:
            for name, groups in (PEOPLE | ACCOUNTS).items():
                self.issue(authenticated(name, groups, uid=name))

    def __getitem__(self, user_name: str) -> str:
        """Return the token that was last issued to a user."""
        return self._current[user_name]

    def issue(self, user: User, *, lifetime_s: float = float("inf")) -> str:
        """Make a new token for a user; older ones go on to be good."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._entries[token] = _Entry(user, self._now() + lifetime_s)
        self._current[user.name] = token
        self._save()
        return token

    def renew(self, user_name: str, *, lifetime_s: float = float("inf")) -> str:
        """Revoke a user's tokens and issue a fresh one."""
        user = self._entries[self._current[user_name]].user
        self.revoke(user_name)
        return self.issue(user, lifetime_s=lifetime_s)

    def expire(self, user_name: str) -> None:
        """Let the user's tokens be past their time: they are refused from now on."""
        now = self._now()
        self._entries = {
            token: replace(entry, expires_at=now) if entry.user.name == user_name else entry
            for token, entry in self._entries.items()
        }
        self._save()

    def revoke(self, user_name: str) -> None:
        """Forget the user's tokens: they are refused from now on."""
        self._entries = {
            token: entry for token, entry in self._entries.items() if entry.user.name != user_name
        }
        self._save()

    def lookup(self, token: str) -> User | None:
        """Return whose token it is; None if it is nobody's, or no longer good."""
        entry = self._entries.get(token)
        return entry.user if entry and self._now() < entry.expires_at else None

    def _save(self) -> None:
        dumped = [
            {
                "token": token,
                "user": entry.user.name,
                "uid": entry.user.uid,
                "groups": entry.user.groups,
                "expiresAt": entry.expires_at,
            }
            for token, entry in self._entries.items()
        ]
        write_private(self._path, json.dumps(dumped))

    def _load(self) -> None:
        for row in json.loads(self._path.read_text(encoding="utf-8")):
            user = User(row["user"], row["uid"], tuple(row["groups"]))
            self._entries[row["token"]] = _Entry(user, row["expiresAt"])
            self._current[user.name] = row["token"]


def authenticate(
    headers: CIMultiDictProxy[str],
    certificate: Mapping[str, Any] | None,
    tokens: Tokens,
    *,
    der: bytes = b"",
) -> User:
    """Return who sends a request.

    A client certificate comes first, then a token; who has neither is anonymous.

    Args:
        headers: Headers of the request.
        certificate: The verified client certificate, as ``ssl`` describes it.
        tokens: The tokens that are good.
        der: The certificate itself.

    Raises:
        Refusal: 401 for a token that is not good.
    """
    if certificate:
        names = [pair for part in certificate["subject"] for pair in part]
        groups = [value for key, value in names if key == "organizationName"]
        common = [value for key, value in names if key == "commonName"]
        fingerprint = hashlib.sha256(der).hexdigest()
        extra = {_CREDENTIAL_ID: (f"X509SHA256={fingerprint}",)}
        return replace(authenticated(common[0], groups), extra=extra)
    authorization = headers.get("Authorization", "")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        return User(ANONYMOUS, groups=(UNAUTHENTICATED,))
    if user := tokens.lookup(token.strip()):
        return user
    raise unauthorized()


def impersonate(headers: CIMultiDictProxy[str], user: User, rbac: Rbac) -> User:
    """Return whom the request is to be carried out as: its sender, or another.

    Raises:
        Refusal: 403 if the sender may not, 400 if no user is named.
    """
    name = headers.get("Impersonate-User", "")
    uid = headers.get("Impersonate-Uid", "")
    groups = tuple(headers.getall("Impersonate-Group", ()))
    extra: dict[str, tuple[str, ...]] = {}
    for key in headers:
        if key.lower().startswith("impersonate-extra-"):
            extra[key.lower().removeprefix("impersonate-extra-")] = tuple(headers.getall(key))
    if not name:
        if groups or uid or extra:
            listed = ", ".join(f'"{group}"' for group in groups)
            raise bad_request(
                f'requested &user.DefaultInfo{{Name:"", UID:"{uid}", '
                f"Groups:[]string{{{listed}}}, Extra:map[string][]string(nil)}} "
                "without impersonating a user name"
            )
        return user
    for asked in _impersonations(name, uid, groups, extra):
        if not rbac.decide(user, asked).allowed:
            raise forbidden(Subject(asked.group, asked.resource), asked.name, describe(user, asked))
    if not groups and name.startswith("system:serviceaccount:"):
        groups = service_account_groups(name.split(":")[2])
    built_in = UNAUTHENTICATED if name == ANONYMOUS else AUTHENTICATED
    return User(name, uid, (*groups, built_in), extra)


def _impersonations(
    name: str, uid: str, groups: tuple[str, ...], extra: Mapping[str, tuple[str, ...]]
) -> Iterator[RequestInfo]:
    """Yield what must be allowed for an impersonation, in the order of the checks."""

    def on(resource: str, name: str, group: str = "", namespace: str = "") -> RequestInfo:
        return RequestInfo("impersonate", "", group, "v1", namespace, resource, name=name)

    match name.split(":"):
        case ["system", "serviceaccount", namespace, account]:
            yield on("serviceaccounts", account, namespace=namespace)
        case _:
            yield on("users", name)
    for each in groups:
        yield on("groups", each)
    about_user = "authentication.k8s.io"
    if uid:
        yield on("uids", uid, about_user)
    for key, values in extra.items():
        for value in values:
            yield replace(on("userextras", value, about_user), subresource=key)
