from __future__ import annotations

import stat
from pathlib import Path

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from kubectl_vmredir.lab.api.auth import Tokens, authenticate, authenticated, impersonate
from kubectl_vmredir.lab.api.rbac import MASTERS, Rbac, User
from kubectl_vmredir.lab.api.roles import default_bindings
from kubectl_vmredir.lab.api.status import Refusal

ALICE = authenticated("alice")
ADMIN = authenticated("admin", (MASTERS,))


def headers(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


def bearer(token: str) -> CIMultiDictProxy[str]:
    return headers(("Authorization", f"Bearer {token}"))


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "tokens.json")


def test_a_token_tells_who_sends_a_request(tokens: Tokens) -> None:
    user = authenticate(bearer(tokens["admin"]), None, tokens)

    assert user == User("admin", "admin", (MASTERS, "system:authenticated"))


def test_who_has_no_credentials_is_anonymous(tokens: Tokens) -> None:
    user = authenticate(headers(), None, tokens)

    assert user == User("system:anonymous", "", ("system:unauthenticated",))


def test_a_token_that_nobody_knows_is_unauthorized(tokens: Tokens) -> None:
    with pytest.raises(Refusal, match="Unauthorized") as caught:
        authenticate(bearer("nonsense"), None, tokens)

    assert caught.value.code == 401


def test_a_client_certificate_is_a_user_with_groups(tokens: Tokens) -> None:
    certificate = {
        "subject": (
            (("commonName", "carol"),),
            (("organizationName", "ops"),),
            (("organizationName", "dev"),),
        )
    }

    user = authenticate(bearer(tokens["alice"]), certificate, tokens, der=b"DER")

    assert user == User(
        "carol",
        "",
        ("ops", "dev", "system:authenticated"),
        {
            "authentication.kubernetes.io/credential-id": (
                "X509SHA256=bffd28c8eeb10a5e50cf17b58f477ea1803895ae69744e6eb53cbcc3bf427adb",
            )
        },
    )


def test_tokens_can_be_read_by_their_owner_only_and_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token = Tokens(path)["alice"]

    again = Tokens(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert again["alice"] == token
    assert again.lookup(token) == authenticated("alice", uid="alice")


def test_a_token_is_good_until_its_time_and_not_after(tmp_path: Path) -> None:
    now = 100.0
    tokens = Tokens(tmp_path / "tokens.json", now=lambda: now)
    token = tokens.issue(ALICE, lifetime_s=10)

    now = 109.9
    assert tokens.lookup(token) == ALICE
    now = 110.0
    assert tokens.lookup(token) is None


def test_expired_and_revoked_tokens_are_refused_and_a_fresh_one_is_not(tokens: Tokens) -> None:
    first = tokens["alice"]
    tokens.expire("alice")
    assert tokens.lookup(first) is None

    second = tokens.renew("alice")
    assert tokens["alice"] == second
    assert tokens.lookup(second) == authenticated("alice", uid="alice")

    tokens.revoke("alice")
    assert tokens.lookup(second) is None
    assert tokens.lookup(tokens["viewer"]) is not None


def test_a_master_may_be_anybody() -> None:
    wish = headers(
        ("Impersonate-User", "bob"),
        ("Impersonate-Group", "g1"),
        ("Impersonate-Group", "g2"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Extra-Scopes", "a"),
    )

    user = impersonate(wish, ADMIN, Rbac(default_bindings()))

    assert user == User("bob", "7", ("g1", "g2", "system:authenticated"), {"scopes": ("a",)})


def test_a_service_account_brings_its_groups() -> None:
    wish = headers(("Impersonate-User", "system:serviceaccount:demo:robot"))

    user = impersonate(wish, ALICE, Rbac(default_bindings()))

    assert user.groups == (
        "system:serviceaccounts",
        "system:serviceaccounts:demo",
        "system:authenticated",
    )


def test_who_may_not_impersonate_is_told_whom() -> None:
    with pytest.raises(Refusal) as caught:
        impersonate(headers(("Impersonate-User", "bob")), ALICE, Rbac(default_bindings()))

    assert caught.value.code == 403
    assert caught.value.message == (
        'users "bob" is forbidden: User "alice" cannot impersonate resource "users" in API '
        'group "" at the cluster scope'
    )


def test_a_group_without_a_user_makes_no_sense() -> None:
    with pytest.raises(Refusal) as caught:
        impersonate(headers(("Impersonate-Group", "g1")), ADMIN, Rbac(default_bindings()))

    assert caught.value.code == 400
    assert caught.value.message == (
        'requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"g1"}, '
        "Extra:map[string][]string(nil)} without impersonating a user name"
    )


def test_without_a_wish_the_sender_stays_who_it_is() -> None:
    assert impersonate(headers(), ALICE, Rbac(default_bindings())) is ALICE
