"""Runs the tests of every tier that this machine can run: ``python -m tests.tiers``.

A tier is a set of tests with needs of its own. What is missing is installed with apt where that is
allowed; otherwise the tier is left out, and it is said how to run it. With ``CI`` set a tier that
is left out is a failure.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from ctypes.util import find_library
from dataclasses import dataclass

import pytest

from tests.support.peers import peers_folder


@dataclass(frozen=True)
class Tier:
    """A set of tests and what it needs.

    Attributes:
        marker: pytest marker of its tests; empty for the tests that need nothing.
        packages: Debian packages that would bring what is missing.
        missing: Says what is missing; empty when all is there.
        prepare: Command to run before the tests.
        boots: Whether its tests wait for VMs most of the time: they run beside the others then.
    """

    marker: str
    packages: tuple[str, ...]
    missing: Callable[[], str]
    prepare: tuple[str, ...] = ()
    boots: bool = False


def _programs(*names: str) -> str:
    return ", ".join(name for name in names if shutil.which(name) is None)


def _native() -> str:
    names = ("usbredirparser", "usbredirhost", "usb-1.0")
    missing = [f"lib{name}" for name in names if find_library(name) is None]
    return ", ".join(filter(None, (*missing, _programs("umockdev-run", "umockdev-wrapper", "cc"))))


def _peers() -> str:
    if peers_folder() is None:
        return "the peers' programs (set VMREDIR_PEERS to their folder)"
    return _programs("kubectl")


def _cluster() -> str:
    if os.geteuid() != 0:
        return "root (mount namespaces of the control plane's pods)"
    return _peers() or _programs("qemu-system-x86_64", "ncat")


_LIBPYTHON = f"libpython3.{sys.version_info.minor}"


def _packaged() -> str:
    names = ("usbredirparser", "usbredirhost", "usb-1.0")
    missing = [f"lib{name}" for name in names if find_library(name) is None]
    if not (sysconfig.get_config_var("Py_ENABLE_SHARED") or find_library(_LIBPYTHON[3:])):
        missing.append(_LIBPYTHON)
    return _peers() or ", ".join(filter(None, (*missing, _programs("git", "objdump"))))


UNIT_TESTS = "tests/unit"
"""Where the tests are that need nothing, and wait for nothing."""

_KUBECTL = () if shutil.which("kubectl") else ("kubernetes-client",)
_QEMU = ("qemu-system-x86", "qemu-system-common")
_GUEST_IMAGE = (sys.executable, "-m", "kubectl_vmredir.lab.guests.image")
_WORKSTATION_IMAGE = (sys.executable, "-m", "tests.support.workstation.image")

TIERS = (
    Tier(
        "native",
        (
            "libusbredirparser1",
            "libusbredirhost1",
            "libusb-1.0-0",
            "libudev1",
            "umockdev",
            "gcc",
            "libc6-dev",
        ),
        _native,
    ),
    Tier(
        "qemu",
        _QEMU,
        lambda: _programs("qemu-system-x86_64", "dpkg-deb", "apt-get"),
        _GUEST_IMAGE,
        boots=True,
    ),
    Tier(
        "workstation",
        (*_QEMU, "erofs-utils"),
        lambda: _programs("qemu-system-x86_64", "mkfs.erofs", "dpkg-deb", "apt-get"),
        _WORKSTATION_IMAGE,
        boots=True,
    ),
    Tier("terminal", ("tmux",), lambda: _programs("tmux")),
    Tier("peers", _KUBECTL, _peers),
    Tier(
        "packaged",
        (*_KUBECTL, "libusbredirhost1", "libusb-1.0-0", _LIBPYTHON, "git", "binutils"),
        _packaged,
        (sys.executable, "-m", "release"),
    ),
    Tier(
        "cluster",
        (*_KUBECTL, *_QEMU, "ncat", "util-linux"),
        _cluster,
        _GUEST_IMAGE,
        boots=True,
    ),
)


def _root() -> tuple[str, ...] | None:
    """Return what to put before a command to run it as root; None if we may not."""
    if os.geteuid() == 0:
        return ()
    asked = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
    return ("sudo", "-n") if asked.returncode == 0 else None


def install(packages: Sequence[str]) -> bool:
    """Install Debian packages if this user may; return whether it worked."""
    if shutil.which("apt-get") is None or (shutil.which("sudo") is None and os.geteuid() != 0):
        return False
    if (root := _root()) is None:
        return False
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-qy", "--no-install-recommends", *packages],
    ):
        if subprocess.run([*root, *command], stdout=sys.stderr, check=False).returncode:
            return False
    return True


def _expression(run: Sequence[Tier], barred: Sequence[str], *, booting: bool, plain: bool) -> str:
    """Return which tests are to run, for pytest; empty for none.

    Args:
        run: The tiers that are to run.
        barred: Markers of those whose tests must not, whatever else they are marked with.
        booting: Whether the tests that boot VMs are meant, or the others.
        plain: Whether the tests of no tier are wanted: they are among the others.
    """
    chosen = [tier.marker for tier in run if tier.boots is booting]
    if plain and not booting:
        # A test of two tiers may boot a VM.
        barred = [*barred, *(tier.marker for tier in run if tier.boots)]
        return " and ".join(f"not {marker}" for marker in barred)
    if not chosen:
        return ""
    return " and ".join([f"({' or '.join(chosen)})", *(f"not {marker}" for marker in barred)])


def _lanes(run: Sequence[Tier], barred: Sequence[str], *, plain: bool) -> Sequence[Sequence[str]]:
    """Return the lanes, each as arguments for pytest: what computes, what waits, what boots VMs.

    Args:
        run: The tiers that are to run.
        barred: Markers of those whose tests must not, whatever else they are marked with.
        plain: Whether the tests of no tier are wanted.
    """
    resting = _expression(run, barred, booting=False, plain=plain)
    booting = _expression(run, barred, booting=True, plain=plain)
    others = [f"--ignore={UNIT_TESTS}"] if plain else []
    lanes = [
        (plain, [UNIT_TESTS, "-m", resting]),
        (bool(resting), [*others, "-m", resting]),
        (bool(booting), ["-m", booting]),
    ]
    return [arguments for wanted, arguments in lanes if wanted]


def _run_side_by_side(lanes: Sequence[Sequence[str]], arguments: Sequence[str]) -> int:
    """Run pytest for each lane, all at once; return the worst exit status.

    The first one is seen as it runs, the others when they have ended.
    """
    commands = [[sys.executable, "-m", "pytest", *lane, *arguments] for lane in lanes]
    if not commands:
        return 0
    with ExitStack() as stack:
        others = []
        for command in commands[1:]:
            output = stack.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            stack.enter_context(process)
            others.append((process, output))
        statuses = [subprocess.run(commands[0], check=False).returncode]
        for process, output in others:
            statuses.append(process.wait())
            output.seek(0)
            sys.stdout.flush()
            shutil.copyfileobj(output, sys.stdout.buffer)
            sys.stdout.flush()
    # -k may leave nothing for one of them, but not for all.
    nothing = pytest.ExitCode.NO_TESTS_COLLECTED
    return max((status for status in statuses if status != nothing), default=int(nothing))


def main() -> int:
    """Run pytest over the tiers; return its exit status, or 1 if CI lacks a tier."""
    parser = argparse.ArgumentParser(prog="tests.tiers", description=__doc__)
    parser.add_argument("--only", choices=["plain", *(tier.marker for tier in TIERS)])
    parser.add_argument("--install", action="store_true", help="install packages, run nothing")
    parser.add_argument("arguments", nargs="*", help="for pytest, after --")
    options = parser.parse_args()

    wanted = [tier for tier in TIERS if options.only in (None, tier.marker)]
    packages = sorted({name for tier in wanted if tier.missing() for name in tier.packages})
    if packages:
        install(packages)
    left_out = {tier.marker: missing for tier in wanted if (missing := tier.missing())}
    if options.install:
        return 1 if left_out else 0
    for tier in wanted:
        if (
            tier.prepare
            and tier.marker not in left_out
            and subprocess.run(tier.prepare, check=False).returncode
        ):
            left_out[tier.marker] = f"what `{' '.join(tier.prepare[1:])}` makes"

    run = [tier for tier in wanted if tier.marker not in left_out]
    barred = [tier.marker for tier in TIERS if tier.marker in left_out or options.only == "plain"]
    plain = options.only in (None, "plain")
    status = _run_side_by_side(_lanes(run, barred, plain=plain), options.arguments)
    for marker, missing in left_out.items():
        print(f"tier {marker!r} was left out: it needs {missing}", file=sys.stderr)  # noqa: T201
        print(f"  run it with: make packages && make test (tier {marker})", file=sys.stderr)  # noqa: T201
    if left_out and os.environ.get("CI"):
        print("error: in CI every tier must run", file=sys.stderr)  # noqa: T201
        return status or 1
    return status


if __name__ == "__main__":
    sys.exit(main())
