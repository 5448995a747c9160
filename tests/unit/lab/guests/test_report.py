from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.lab.guests.report import (
    ConsoleReader,
    Disconnect,
    DiskSeen,
    Echoed,
    Gap,
    KernelLine,
    PassDone,
    ReadError,
    Ready,
)

# As a guest in QEMU 7.2 wrote it.
CONSOLE = (
    b'@{"event":"ready","kernel":"6.1.0-56-amd64","t":4.09}\r\n'
    b"[    4.615655] usb 1-1: new high-speed USB device number 2 using xhci_hcd\r\n"
    b'@{"seq":1,"serial":"SN0001","event":"disk","name":"sda","bytes":4194304,"t":5.01}\r\n'
    b"[    7.569110] usb 1-1: USB disconnect, device number 2\r\n"
    b'@{"seq":2,"serial":"SN0001","event":"error","n":3,"offset":1114112,"t":7.67}\r\n'
    b'@{"event":"echo","port":"ttyACM0","right":true,"t":8.12}\r\n'
    b'@{"seq":3,"serial":"SN0001","event":"gap","ms":890,"t":8.40}\r\n'
    b'@{"seq":1,"serial":"SN0001","event":"disk","name":"sda","bytes":4194304,"t":5.01}\r\n'
    b'@{"seq":4,"serial":"SN0001","event":"pass","n":4,"bytes":4194304,"sha256":"ee9c",'
    b'"started":8.31,"ended":9.57,"errors":0,"max_gap_ms":30}\r\n'
)
FACTS = [
    Ready("6.1.0-56-amd64", 4.09),
    KernelLine(4.615655, "usb 1-1: new high-speed USB device number 2 using xhci_hcd"),
    DiskSeen("SN0001", "sda", 4194304, 5.01),
    Disconnect(7.56911, "1-1"),
    ReadError("SN0001", 3, 1114112, 7.67),
    Echoed("ttyACM0", True, 8.12),
    Gap("SN0001", 890, 8.40),
    PassDone("SN0001", 4, 4194304, "ee9c", 8.31, 9.57, 0, 30),
]


def test_facts_are_told_once_and_in_order() -> None:
    assert ConsoleReader().feed(CONSOLE) == FACTS


@given(cuts=st.lists(st.integers(0, len(CONSOLE))))
def test_facts_do_not_depend_on_how_the_bytes_come(cuts: list[int]) -> None:
    reader = ConsoleReader()
    edges = [0, *sorted(cuts), len(CONSOLE)]

    facts = [
        fact for start, end in itertools.pairwise(edges) for fact in reader.feed(CONSOLE[start:end])
    ]

    assert facts == FACTS


def test_a_line_that_the_kernel_tore_is_told_when_it_comes_again() -> None:
    reader = ConsoleReader()
    whole = b'@{"seq":9,"serial":"A","event":"gap","ms":20,"t":1.50}\r\n'
    kernel = b"[    1.500000] usb 1-1: reset high-speed USB device\r\n"

    torn = reader.feed(whole[:16] + kernel + whole[16:])
    again = reader.feed(whole)

    assert torn == [KernelLine(1.5, "usb 1-1: reset high-speed USB device")]
    assert again == [Gap("A", 20, 1.5)]


def test_a_fact_that_was_lost_is_told_later_than_a_newer_one() -> None:
    reader = ConsoleReader()
    lines = [b'@{"seq":%d,"serial":"A","event":"gap","ms":%d,"t":1.00}\n' % (n, n) for n in (1, 2)]

    first = reader.feed(lines[1])
    second = reader.feed(lines[0] + lines[1])

    assert first == [Gap("A", 2, 1.0)]
    assert second == [Gap("A", 1, 1.0)]


def test_two_disks_have_numbers_of_their_own() -> None:
    line = b'@{"seq":1,"serial":"%s","event":"gap","ms":1,"t":1.00}\n'

    facts = ConsoleReader().feed(line % b"A" + line % b"B")

    assert facts == [Gap("A", 1, 1.0), Gap("B", 1, 1.0)]


def test_numbers_begin_anew_when_the_guest_boots() -> None:
    reader = ConsoleReader()

    reader.feed(CONSOLE)

    assert reader.feed(CONSOLE) == FACTS


def test_a_line_without_an_end_is_bounded() -> None:
    reader = ConsoleReader()

    reader.feed(b"x" * 1_000_000)
    facts = reader.feed(b"\n" + CONSOLE)

    assert facts == FACTS


@given(data=st.binary(max_size=300))
def test_any_bytes_are_taken(data: bytes) -> None:
    reader = ConsoleReader()

    reader.feed(data + b"\n")

    assert reader.feed(CONSOLE)[0] == FACTS[0]


def test_nesting_without_end_is_no_fact() -> None:
    assert ConsoleReader().feed(b'@{"t":' + b"[" * 4000 + b"\n") == []


@given(message=st.text(max_size=60))
def test_any_text_after_the_mark_is_taken(message: str) -> None:
    ConsoleReader().feed(b"@{" + message.encode() + b"}\n")
