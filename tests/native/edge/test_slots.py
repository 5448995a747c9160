"""A slot that is taken, not there, or does not answer."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from kubectl_vmredir.protocol.edge import Opened, RefusalCode
from tests.support.edges import EdgeBed, Slot

pytestmark = pytest.mark.native


def test_slot_that_appears_while_it_is_waited_for_is_opened(bed: EdgeBed) -> None:
    bed.slot.close()
    bed.slot.path.unlink()
    client = bed.client()
    client.flushed()

    bed.slot = Slot(bed.folder)
    bed.slot.accept()

    client.open()


def test_slot_that_never_appears_is_an_error_with_its_number(bed: EdgeBed) -> None:
    bed.slot.path.unlink()

    refused = bed.client(wait_s=0.05).refused()

    assert (refused.code, refused.errno) == (RefusalCode.SLOT_ERROR, errno.ENOENT)


def test_socket_that_nobody_listens_on_is_an_error(bed: EdgeBed) -> None:
    bed.slot.close()

    refused = bed.client(wait_s=0.05).refused()

    assert (refused.code, refused.errno) == (RefusalCode.SLOT_ERROR, errno.ECONNREFUSED)


def test_slot_that_somebody_uses_is_taken_and_they_are_not_disturbed(bed: EdgeBed) -> None:
    with socket.socket(socket.AF_UNIX) as virtctl:
        virtctl.connect(str(bed.slot.path))
        bed.slot.accept()

        refused = bed.client(wait_s=0.05).refused()
        virtctl.sendall(b"data")

        assert refused.code is RefusalCode.SLOT_TAKEN
        bed.slot.read_until(4)


def test_slot_that_somebody_waits_for_is_taken(bed: EdgeBed) -> None:
    with socket.socket(socket.AF_UNIX) as virtctl:
        virtctl.connect(str(bed.slot.path))  # and nobody accepts

        assert bed.client(wait_s=0.05).refused().code is RefusalCode.SLOT_TAKEN


def test_slot_is_opened_as_soon_as_its_user_leaves(bed: EdgeBed) -> None:
    virtctl = socket.socket(socket.AF_UNIX)
    virtctl.connect(str(bed.slot.path))
    bed.slot.accept()
    client = bed.client()
    client.flushed()

    virtctl.close()
    bed.slot.hang_up()
    bed.slot.accept()

    client.open()


def test_slot_that_does_not_accept_is_silent(bed: EdgeBed) -> None:
    assert bed.client(wait_s=0.05).refused().code is RefusalCode.SLOT_SILENT


def test_slot_can_be_asked_for_again_after_a_refusal(bed: EdgeBed) -> None:
    bed.client(wait_s=0.05).refused()

    bed.slot.accept()  # what is left of the first try
    bed.slot.hang_up()

    bed.opened()


def test_acceptance_is_seen_by_the_path_that_qemu_has_bound(bed: EdgeBed) -> None:
    seen = bed.opened()
    seen.session.close()
    seen.closed()
    bed.slot.hang_up()
    alias = bed.folder / "alias"
    os.symlink(bed.slot.path, alias)
    bed.socket = bed.folder / "other.sock"
    bed.slot.path = alias

    unseen = bed.opened()

    assert Opened(accepted=True) in seen.news
    assert Opened(accepted=False) in unseen.news


def test_close_while_the_slot_is_waited_for_ends_the_wait(bed: EdgeBed) -> None:
    client = bed.client(wait_s=60)
    client.flushed()
    client.session.close()

    assert client.closed().exact
