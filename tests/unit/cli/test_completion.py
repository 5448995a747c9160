"""What the tab key is told: cobra's words, without a cluster and without an agent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kubectl_vmredir.cli import completing
from kubectl_vmredir.cli.main import main
from kubectl_vmredir.errors import ExitCode


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


def offered(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Return the lines that kubectl would read."""
    assert completing.main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def test_commands_come_with_what_they_do_and_no_files(capsys: pytest.CaptureFixture[str]) -> None:
    *lines, directive = offered(capsys, "ver")

    assert lines == ["version\tPrint the version of this program."]
    assert directive == ":4"


def test_no_word_at_all_offers_all_commands_but_the_hidden(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {line.partition("\t")[0] for line in offered(capsys)}

    assert {"bind", "completion", "devices"} <= names
    assert not names & {"screen", completing.NAME, "usb-host", "lab-component"}


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("slots", "--all-n"), ["--all-namespaces"]),
        (("devices", "-o", "j"), ["json"]),
        (("devices", "--output=y"), ["yaml"]),
        (("demo", "--backend", "s"), ["sim"]),
    ],
)
def test_flags_and_their_values(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], values: list[str]
) -> None:
    *lines, directive = offered(capsys, *words)

    assert [line.partition("\t")[0] for line in lines] == values
    assert directive == ":4"


def test_devices_that_begin_as_the_word_does(capsys: pytest.CaptureFixture[str]) -> None:
    lines = offered(capsys, "bind", "--virtual", "1209:0001:")

    assert lines == [
        "1209:0001:FLASH001\tstorage: Virtual Stick",
        "1209:0001:FLASH002\tstorage: Virtual Stick",
        ":4",
    ]


@pytest.mark.parametrize("command", ["bind 1209:0001", "slots", "migrate", "unbind", "status"])
def test_without_a_cluster_and_an_agent_nothing_is_offered_and_nothing_said(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert offered(capsys, *command.split(), "") == [":4"]


def test_a_folder_is_asked_for_where_one_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert offered(capsys, "completion", "--folder", "") == [":16"]


def test_the_program_is_installed_where_kubectl_looks_for_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    monkeypatch.setenv("PATH", str(folder))

    status = main(["completion", "--install", "--folder", str(folder)])

    file = folder / "kubectl_complete-vmredir"
    assert status == ExitCode.OK
    assert capsys.readouterr().err == f"{file} is written\n"
    assert file.read_text() == completing.SCRIPT
    assert os.access(file, os.X_OK)


def test_a_folder_that_kubectl_does_not_look_into_is_warned_of(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    main(["completion", "--install", "--folder", str(tmp_path)])

    assert f"warning: {tmp_path} is not on your PATH" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_an_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    status = main(["completion", "--install", "--folder", str(tmp_path / "file" / "bin")])

    assert status == ExitCode.FAILURE
    assert capsys.readouterr().err.startswith("error: cannot write ")


def test_without_install_the_program_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion"])

    assert capsys.readouterr().out == completing.SCRIPT
