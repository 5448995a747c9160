from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kubectl_vmredir.errors import KubeconfigError
from kubectl_vmredir.k8s.kubeconfig import ClusterConfig, ConfigOptions, load_config
from tests.support.kubeconfigs import kubeconfig, one_cluster, write

PEM = b"-----BEGIN CERTIFICATE-----\n"
DATA = base64.b64encode(PEM).decode()


def load(tmp_path: Path, content: Mapping[str, Any], **options: Any) -> ClusterConfig:  # noqa: ANN401
    path = write(tmp_path / "config", content)
    return load_config(ConfigOptions(kubeconfig=path, **options), {})


# -- which files ----------------------------------------------------------------------------


def test_first_file_that_sets_the_current_context_wins(tmp_path: Path) -> None:
    a = write(tmp_path / "a", kubeconfig(contexts={"x": {"cluster": "cx"}}))
    b = write(tmp_path / "b", kubeconfig(current="x", clusters={"cx": {"server": "https://x"}}))
    c = write(
        tmp_path / "c",
        kubeconfig(
            current="y",
            contexts={"y": {"cluster": "cy"}},
            clusters={"cy": {"server": "https://y"}},
        ),
    )

    config = load_config(environ={"KUBECONFIG": f"{a}:{b}:{c}"})

    assert config.context == "x"
    assert config.server == "https://x"


def test_entry_of_the_first_file_wins_whole(tmp_path: Path) -> None:
    a = write(tmp_path / "a", one_cluster())
    b = write(
        tmp_path / "b",
        one_cluster({"server": "https://other", "tls-server-name": "n"}, {"username": "bob"}),
    )

    config = load_config(environ={"KUBECONFIG": f"{a}:{b}"})

    assert config.server == "https://api.example:6443"
    assert config.tls_server_name is None
    assert (config.user.token, config.user.username) == ("t0ken", "")


def test_missing_and_empty_files_of_a_list_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    found = write(tmp_path / "found", one_cluster())

    config = load_config(environ={"KUBECONFIG": f":{tmp_path}/none:{tmp_path}/empty:{found}:"})

    assert config.server == "https://api.example:6443"


def test_flag_names_the_only_file(tmp_path: Path) -> None:
    listed = write(tmp_path / "listed", kubeconfig(current="listed"))
    flag = write(tmp_path / "flag", one_cluster())

    config = load_config(ConfigOptions(kubeconfig=flag), {"KUBECONFIG": str(listed)})

    assert config.context == "here"


def test_home_is_asked_when_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / ".kube" / "config", one_cluster())

    assert load_config(environ={}).context == "here"


def test_missing_kubeconfig_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match=r"no kubeconfig: nothing at .*none") as caught:
        load_config(environ={"KUBECONFIG": f"{tmp_path}/none"})

    assert caught.value.hint is not None
    assert "--kubeconfig" in caught.value.hint


def test_file_of_the_flag_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match=f"no kubeconfig at {tmp_path}/none"):
        load_config(ConfigOptions(kubeconfig=tmp_path / "none"), {})


def test_server_flag_needs_no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    config = load_config(ConfigOptions(server="https://lab:6443/", token="t"), {})

    assert config.server == "https://lab:6443"
    assert config.user.token == "t"
    assert config.namespace == "default"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{", id="no-yaml"),
        pytest.param("- a\n- b\n", id="a-list"),
        pytest.param("clusters: nonsense\n", id="clusters-are-a-text"),
        pytest.param("users: [nonsense]\n", id="an-entry-is-a-text"),
        pytest.param("users: [{name: a, user: [1]}]\n", id="a-user-is-a-list"),
        pytest.param("current-context: {a: b}\n", id="context-is-a-mapping"),
        pytest.param("a: \xff", id="latin-1"),
    ],
)
def test_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken"
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(KubeconfigError, match=r"kubeconfig .*broken: |cannot read the kubeconfig"):
        load_config(ConfigOptions(kubeconfig=path), {})


def test_broken_file_shows_nothing_of_its_text(tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_text("users:\n- name: a\n  user: {token: s3cret\n")

    with pytest.raises(KubeconfigError) as caught:
        load_config(ConfigOptions(kubeconfig=path), {})

    assert "s3cret" not in f"{caught.value}{caught.value.hint}"
    assert caught.value.__cause__ is None


# -- contexts, clusters, users --------------------------------------------------------------


def test_flags_choose_context_cluster_user_and_namespace(tmp_path: Path) -> None:
    content = kubeconfig(
        current="a",
        contexts={"a": {"cluster": "ca", "user": "ua"}, "b": {"cluster": "cb", "user": "ub"}},
        clusters={"ca": {"server": "https://a"}, "cb": {"server": "https://b"}},
        users={"ua": {"token": "ta"}, "ub": {"token": "tb"}},
    )

    assert load(tmp_path, content).server == "https://a"
    assert load(tmp_path, content, context="b").user.token == "tb"
    mixed = load(tmp_path, content, cluster="cb", namespace="there")
    assert (mixed.server, mixed.user.token, mixed.namespace) == ("https://b", "ta", "there")
    assert load(tmp_path, content, user="ub").user.name == "ub"


@pytest.mark.parametrize("kind", ["context", "cluster", "user"])
def test_unknown_name_is_answered_with_those_that_exist(tmp_path: Path, kind: str) -> None:
    known = {"context": "here", "cluster": "prod", "user": "alice"}[kind]

    with pytest.raises(KubeconfigError, match=f"no {kind} 'nope'") as caught:
        load(tmp_path, one_cluster(), **{kind: "nope"})

    assert caught.value.hint == f"It has: {known}."


def test_no_current_context_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="no current context") as caught:
        load(tmp_path, kubeconfig(clusters={"a": {"server": "https://a"}}))

    assert caught.value.hint is not None
    assert "--context" in caught.value.hint


def test_namespace_of_the_context_is_the_default(tmp_path: Path) -> None:
    assert load(tmp_path, one_cluster()).namespace == "vms"


def test_namespace_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="cannot be the name of a namespace"):
        load(tmp_path, one_cluster(), namespace="../kube-system")


@pytest.mark.parametrize("server", ["ftp://a", "https://", "https://a:x", "https://a:0"])
def test_server_that_is_no_url_is_refused(tmp_path: Path, server: str) -> None:
    with pytest.raises(KubeconfigError, match="not the URL of an API server"):
        load(tmp_path, one_cluster({"server": server}))


# -- certificates ---------------------------------------------------------------------------


def test_paths_are_relative_to_the_file_they_stand_in(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(PEM)
    user = {
        "client-certificate": "pki/cert.pem",
        "client-key": "/abs/key.pem",
        "tokenFile": "token",
        "exec": {"apiVersion": "v1", "command": "./bin/login"},
    }

    config = load(tmp_path, one_cluster({"certificate-authority": "ca.pem"}, user))

    assert config.ca == PEM
    assert config.user.certificate_file == tmp_path / "pki" / "cert.pem"
    assert config.user.key_file == Path("/abs/key.pem")
    assert config.user.token_file == tmp_path / "token"
    assert config.user.exec is not None
    assert config.user.exec.command == str(tmp_path / "bin" / "login")


def test_data_goes_before_a_file(tmp_path: Path) -> None:
    cluster = {"certificate-authority-data": DATA, "certificate-authority": "none.pem"}

    assert load(tmp_path, one_cluster(cluster)).ca == PEM


def test_missing_authority_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match=r"certificate-authority .*none\.pem: No such file"):
        load(tmp_path, one_cluster({"certificate-authority": "none.pem"}))


def test_data_that_is_not_base64_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="certificate-authority-data is not base64"):
        load(tmp_path, one_cluster({"certificate-authority-data": "abc"}))


def test_insecure_flag_drops_the_authority(tmp_path: Path) -> None:
    content = one_cluster({"certificate-authority-data": DATA})

    config = load(tmp_path, content, insecure_skip_tls_verify=True)

    assert config.insecure
    assert config.ca is None


def test_insecure_can_stand_in_the_kubeconfig_and_be_taken_back_by_the_flag(tmp_path: Path) -> None:
    content = one_cluster({"insecure-skip-tls-verify": True})

    assert load(tmp_path, content).insecure
    assert not load(tmp_path, content, insecure_skip_tls_verify=False).insecure


def test_server_flag_drops_the_name_that_goes_with_the_clusters_server(tmp_path: Path) -> None:
    content = one_cluster({"tls-server-name": "inner.example"})

    assert load(tmp_path, content).tls_server_name == "inner.example"
    assert load(tmp_path, content, server="https://x").tls_server_name is None
    assert load(tmp_path, content, tls_server_name="flag").tls_server_name == "flag"


# -- users ----------------------------------------------------------------------------------


def test_token_flag_goes_before_all_but_the_certificate(tmp_path: Path) -> None:
    user = {
        "tokenFile": "t",
        "username": "u",
        "password": "p",
        "exec": {"command": "login"},
        "client-certificate-data": DATA,
        "client-key-data": DATA,
    }

    found = load(tmp_path, one_cluster(user=user), token="flag").user

    assert found.token == "flag"
    assert (found.token_file, found.username, found.password, found.exec) == (None, "", "", None)
    assert found.certificate == PEM


def test_exec_plugin_is_read(tmp_path: Path) -> None:
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "login",
        "args": ["--quiet"],
        "env": [{"name": "A", "value": "1"}],
        "provideClusterInfo": True,
        "interactiveMode": "Always",
        "installHint": "apt install login",
    }

    config = load(tmp_path, one_cluster({"extensions": [extension]}, {"exec": plugin}))

    found = config.user.exec
    assert found is not None
    assert (found.command, found.args, found.env) == ("login", ("--quiet",), {"A": "1"})
    assert found.provide_cluster_info
    assert found.interactive
    assert found.install_hint == "apt install login"
    assert config.exec_config == {"audience": "x"}


def test_exec_plugin_without_command_is_broken(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="exec has no command"):
        load(tmp_path, one_cluster(user={"exec": {"args": ["x"]}}))


def test_impersonation_of_the_flags_goes_before_that_of_the_kubeconfig(tmp_path: Path) -> None:
    user = {
        "token": "t",
        "as": "carol",
        "as-groups": ["g"],
        "as-uid": "7",
        "as-user-extra": {"scopes": ["a", "b"]},
    }

    read = load(tmp_path, one_cluster(user=user)).impersonation
    assert (read.user, read.groups, read.uid) == ("carol", ("g",), "7")
    assert read.extra == {"scopes": ("a", "b")}

    flags = load(
        tmp_path,
        one_cluster(user=user),
        impersonate_user="dave",
        impersonate_groups=("h", "i"),
        impersonate_uid="8",
    ).impersonation
    assert (flags.user, flags.groups, flags.uid) == ("dave", ("h", "i"), "8")


def test_secrets_are_in_no_repr(tmp_path: Path) -> None:
    user = {
        "token": "s3cret",
        "password": "s3cret",
        "client-key-data": base64.b64encode(b"s3cret").decode(),
        "exec": {"command": "x", "env": [{"name": "A", "value": "s3cret"}]},
        "auth-provider": {"config": {"id-token": "s3cret"}},
    }

    assert "s3cret" not in repr(load(tmp_path, one_cluster(user=user)))
    assert "s3cret" not in repr(ConfigOptions(token="s3cret"))
