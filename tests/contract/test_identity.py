"""Who somebody is to the API server: tokens, certificates, exec plugins, nobody, somebody else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from kubectl_vmredir.k8s.client import KubeClient
from kubectl_vmredir.k8s.kubeconfig import ConfigOptions, load_config
from tests.support.raw_streams import dial
from tests.support.vms import NAMESPACE, stream_path

if TYPE_CHECKING:
    from tests.support.worlds import World

REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
VMIS = f"/apis/kubevirt.io/v1/namespaces/{NAMESPACE}/virtualmachineinstances"


async def who_am_i(world: World, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """Ask who we are, with our own client."""
    config = load_config(ConfigOptions(kubeconfig=world.kubeconfig, **options), {})
    async with KubeClient(config) as client:
        answer = await client.create(REVIEWS, REVIEW)
    info: dict[str, Any] = answer["status"]["userInfo"]
    # A file of tokens cannot say that somebody is in no group.
    return info | {"groups": [group for group in info["groups"] if group]}


@pytest.mark.parametrize("context", ["alice", "alice-exec"])
async def test_a_token_is_somebody_with_a_uid(world: World, context: str) -> None:
    info = await who_am_i(world, context=context)

    assert info == {"username": "alice", "uid": "alice", "groups": ["system:authenticated"]}


async def test_a_certificate_is_somebody_and_says_which_certificate(world: World) -> None:
    info = await who_am_i(world, context="alice-cert")

    assert info["username"] == "alice"
    assert info["groups"] == ["system:authenticated"]
    assert "uid" not in info
    [credential] = info["extra"]["authentication.kubernetes.io/credential-id"]
    assert credential.startswith("X509SHA256=")


async def test_the_admin_is_in_the_group_of_the_masters(world: World) -> None:
    info = await who_am_i(world, context="admin")

    assert info["username"] == "admin"
    assert info["groups"] == ["system:masters", "system:authenticated"]


async def test_without_a_context_it_is_alice(world: World) -> None:
    assert (await who_am_i(world))["username"] == "alice"


async def test_impersonation_by_who_may(world: World) -> None:
    info = await who_am_i(
        world,
        context="admin",
        impersonate_user="bob",
        impersonate_groups=("team",),
        impersonate_uid="b0b",
    )

    assert info == {"username": "bob", "uid": "b0b", "groups": ["team", "system:authenticated"]}


async def test_impersonation_of_a_service_account_brings_its_groups(world: World) -> None:
    name = f"system:serviceaccount:{NAMESPACE}:robot"

    info = await who_am_i(world, context="admin", impersonate_user=name)

    assert info["groups"] == [
        "system:serviceaccounts",
        f"system:serviceaccounts:{NAMESPACE}",
        "system:authenticated",
    ]


async def test_impersonation_by_who_may_not(world: World) -> None:
    async with world.http("alice") as http:
        answer = await http.get(VMIS, headers={"Impersonate-User": "bob"})

    assert answer.status_code == 403
    assert answer.json()["reason"] == "Forbidden"
    # Who impersonated somebody in the old way once is refused in the words of the old way.
    assert re.fullmatch(
        r'virtualmachineinstances\.kubevirt\.io is forbidden: User "alice" cannot '
        r'impersonate-on:user-info:list resource "virtualmachineinstances" in API group '
        r'"kubevirt\.io" in the namespace "demo"'
        r'|users "bob" is forbidden: User "alice" cannot impersonate resource "users" '
        r'in API group "" at the cluster scope',
        answer.json()["message"],
    )


async def test_a_group_without_a_user_cannot_be_impersonated(world: World) -> None:
    async with world.http("admin") as http:
        answer = await http.get(VMIS, headers={"Impersonate-Group": "team"})

    assert answer.status_code == 400
    assert "without impersonating a user" in answer.json()["message"]


async def test_nobody_is_anonymous_and_forbidden(world: World) -> None:
    async with world.http("alice") as http:
        del http.headers["Authorization"]
        answer = await http.get(VMIS)

    assert answer.status_code == 403
    assert answer.json()["reason"] == "Forbidden"
    assert answer.json()["message"] == (
        'virtualmachineinstances.kubevirt.io is forbidden: User "system:anonymous" cannot list '
        f'resource "virtualmachineinstances" in API group "kubevirt.io" in the namespace '
        f'"{NAMESPACE}"'
    )


async def test_anybody_may_ask_for_the_version(world: World) -> None:
    async with world.http("alice") as http:
        del http.headers["Authorization"]
        answer = await http.get("/version")

    assert answer.status_code == 200
    assert answer.json()["major"] == "1"


@pytest.mark.parametrize("path", [VMIS, "/version", stream_path("nix")])
async def test_a_bad_token_is_unauthorized_whatever_it_asks_for(world: World, path: str) -> None:
    async with world.http("alice") as http:
        http.headers["Authorization"] = "Bearer no-such-token"
        answer = await http.get(path)

    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/json"
    assert answer.text == (
        '{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure",'
        '"message":"Unauthorized","reason":"Unauthorized","code":401}\n'
    )


@pytest.mark.parametrize("user", ["alice", "alice-cert", "alice-exec", "admin"])
async def test_streams_know_all_of_them(world: World, user: str) -> None:
    async with dial(world, stream_path("nix"), user=user) as stream:
        assert stream.answer.status == 404  # who may not would not hear this
