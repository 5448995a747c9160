from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from kubectl_vmredir.agent.places import Places, listen, make_private
from kubectl_vmredir.errors import AgentError

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folders_are_for_this_user_only(tmp_path: Path) -> None:
    places = Places(tmp_path / "run" / "x", tmp_path / "state" / "deep" / "x")

    places.prepare()

    assert mode(places.runtime) == 0o700
    assert mode(places.state) == 0o700
    assert mode(places.state.parent) == 0o700


def test_folder_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x").chmod(0o777)

    make_private(tmp_path / "x")

    assert mode(tmp_path / "x") == 0o700


def test_link_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "x").symlink_to(tmp_path / "real")

    with pytest.raises(AgentError, match="is not a folder of yours"):
        make_private(tmp_path / "x")


@only_root
def test_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    os.chown(tmp_path / "x", 1234, 1234)

    with pytest.raises(AgentError, match="is not a folder of yours"):
        make_private(tmp_path / "x")


@only_root
def test_folder_below_one_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 1234, 1234)

    with pytest.raises(AgentError, match="other users can write to"):
        make_private(tmp_path / "theirs" / "x")


def test_folder_below_one_that_all_can_write_to_is_refused_unless_it_is_sticky(
    tmp_path: Path,
) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(AgentError, match="other users can write to"):
        make_private(tmp_path / "x")

    tmp_path.chmod(0o1777)
    make_private(tmp_path / "x")


def test_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "x").touch()

    with pytest.raises(AgentError, match="cannot use"):
        make_private(tmp_path / "x" / "y")


def test_places_are_where_the_system_keeps_such_things(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "/state")

    places = Places.of_user()

    assert places.socket == tmp_path / "kubectl-vmredir" / "agent.sock"
    assert places.wishes == Path("/state/kubectl-vmredir/redirections.json")


def test_user_without_a_runtime_folder_has_one_in_tmp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/nowhere")

    assert Places.of_user().runtime == Path(f"/tmp/kubectl-vmredir-{os.geteuid()}")


def test_socket_is_for_this_user_only_and_replaces_a_stale_one(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listen(path).close()

    with listen(path), socket.socket(socket.AF_UNIX) as client:
        assert mode(path) == 0o600
        client.connect(str(path))


def test_socket_with_a_path_that_is_too_long_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="AF_UNIX path too long"):
        listen(tmp_path / ("x" * 120))
