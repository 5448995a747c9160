"""The shared flags and the arguments that name devices and VMs."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.bootstrap import Options
from kubectl_vmredir.cli.options import (
    ClusterCommand,
    ClusterGroup,
    parse_device,
    parse_duration,
    parse_target,
    parse_vmi,
)
from kubectl_vmredir.errors import UsageError
from kubectl_vmredir.model import DeviceSelector, VendorProduct, VmiRef


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", None),
        ("0s", None),
        ("30", 30),
        ("30s", 30),
        ("2m", 120),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1.5h", 5400),
    ],
)
def test_durations_are_read_as_kubectl_reads_them(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1s", "1d", "1 s", "s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a time"):
        parse_duration(text)


IDS = VendorProduct(0x0951, 0x1666)


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("0951:1666", DeviceSelector(ids=IDS)),
        ("0951:1666:FLASH001", DeviceSelector(ids=IDS, serial="FLASH001")),
        ("0951:1666:a:b", DeviceSelector(ids=IDS, serial="a:b")),
        ("3-11", DeviceSelector(bus=3, address=11)),
        ("port:1-4.2", DeviceSelector(port_path="1-4.2")),
    ],
)
def test_a_device_is_named_in_four_ways(text: str, selector: DeviceSelector) -> None:
    assert parse_device(text) == selector


@pytest.mark.parametrize("text", ["keyboard", "951:1666", "port:4", "3-", "0951:1666:"])
def test_other_device_names_are_refused_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_device(text)
    assert caught.value.hint == "List devices with: kubectl vmredir devices"


@pytest.mark.parametrize("text", ["x", "vm/x", "vmi/x", "virtualmachineinstances/x"])
def test_a_vm_is_named_as_for_virtctl(text: str) -> None:
    assert parse_vmi(text, "demo") == VmiRef("demo", "x")


@pytest.mark.parametrize("text", ["", "pod/x", "X", "vm/", "a b", "../x"])
def test_other_vm_names_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a VM"):
        parse_vmi(text, "demo")


@pytest.mark.parametrize(
    ("text", "slot"),
    [("x", None), ("x/flash", "flash"), ("vm/x", None), ("vmi/x/flash", "flash")],
)
def test_a_target_is_a_vm_and_perhaps_a_slot(text: str, slot: str | None) -> None:
    assert parse_target(text, "demo") == (VmiRef("demo", "x"), slot)


@pytest.mark.parametrize("text", ["", "x/", "x/y/z", "vm/x/y/z"])
def test_other_targets_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_target(text, "demo")


@given(st.text(max_size=40))
def test_any_target_parses_or_is_refused(text: str) -> None:
    try:
        ref, _ = parse_target(text, "demo")
    except UsageError:
        return
    assert ref.name in text


def options_of(*arguments: str) -> Options:
    @click.group(cls=ClusterGroup)
    def group() -> None: ...

    @group.command(cls=ClusterCommand)
    @click.pass_obj
    def show(options: Options) -> Options:
        return options

    found = group.main([*arguments], standalone_mode=False)
    assert isinstance(found, Options)
    return found


def test_flags_are_taken_before_and_after_the_command() -> None:
    assert options_of("-n", "demo", "show") == options_of("show", "-n", "demo")


def test_a_flag_after_the_command_wins() -> None:
    assert options_of("-n", "one", "show", "-n", "two").namespace == "two"


def test_all_of_kubectls_flags_arrive() -> None:
    options = options_of(
        "show", "--kubeconfig", "f", "--context", "c", "--cluster", "cl", "--user", "u", "-s",
        "url", "--token", "t", "--as", "a", "--as-group", "g", "--as-group", "h", "--as-uid", "i",
        "--insecure-skip-tls-verify", "--request-timeout", "3s", "--virtual",
    )  # fmt: skip

    assert options == Options(
        "f", "c", "cl", "u", None, "url", "t", "a", ("g", "h"), "i", True, 3.0, False, True
    )


@click.command(cls=ClusterCommand)
@click.option("--wait/--no-wait", default=True)
@click.option("-w", "--watch", is_flag=True)
@click.argument("words", nargs=-1)
def switched(wait: bool, watch: bool, words: tuple[str, ...]) -> None:
    click.echo(f"{wait} {watch} {' '.join(words)}".rstrip())


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("", "True False"),
        ("--wait=false", "False False"),
        ("--wait=true a", "True False a"),
        ("--watch=1", "True True"),
        ("--watch=F --no-wait", "False False"),
        ("--wait a", "True False a"),
        ("-- --wait=false", "True False --wait=false"),
    ],
)
def test_a_switch_may_have_a_value_as_kubectls(line: str, meant: str) -> None:
    result = CliRunner().invoke(switched, line.split())

    assert (result.exit_code, result.output.strip()) == (0, meant), result.output


def test_a_switch_before_the_command_may_have_a_value_too() -> None:
    assert options_of("--lab=true", "show").lab
    assert not options_of("--lab=false", "show").lab


def test_a_switch_takes_no_other_value() -> None:
    assert CliRunner().invoke(switched, ["--wait=maybe"]).exit_code == 2
