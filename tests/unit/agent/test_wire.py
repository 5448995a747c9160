from __future__ import annotations

import dataclasses
import inspect
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_vmredir import errors
from kubectl_vmredir.agent.wire import codec_of, dump_line, error_of, load_line, trouble_of
from kubectl_vmredir.errors import (
    ClusterError,
    ExitCode,
    MessageMalformed,
    SlotsFull,
    UsbError,
    VmRedirError,
)
from kubectl_vmredir.model import RedirectionId, VendorProduct, VmiRef, to_json
from kubectl_vmredir.service import interface
from kubectl_vmredir.service.interface import (
    BindRequest,
    Change,
    Numbers,
    RedirectionEnded,
    Trouble,
    VmiNews,
)
from tests.support.wire_values import JSON, values

KINDS = [
    *(
        found
        for _, found in inspect.getmembers(interface, dataclasses.is_dataclass)
        if found.__module__ == interface.__name__
    ),
    Change,
    VmiNews,
]


def through_a_line(kind: object, value: object) -> object:
    line = dump_line(codec_of(kind), value)
    assert line.index(b"\n") == len(line) - 1
    return load_line(codec_of(kind), line)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@settings(max_examples=20)
@given(data=st.data())
def test_every_value_of_the_service_interface_comes_back_as_it_was(
    kind: object, data: st.DataObject
) -> None:
    value = data.draw(values(kind))

    assert through_a_line(kind, value) == value


@settings(max_examples=20)
@given(value=values(interface.Snapshot))
def test_json_of_a_value_is_that_of_the_model(value: interface.Snapshot) -> None:
    assert codec_of(interface.Snapshot).encode(value) == to_json(value)


def test_one_of_a_union_says_which_one_it_is() -> None:
    line = dump_line(codec_of(Change), RedirectionEnded(RedirectionId("r1")))

    assert json.loads(line) == {"type": "RedirectionEnded", "id": "r1"}


def test_what_is_missing_takes_its_default_and_what_is_unknown_is_ignored() -> None:
    line = (
        b'{"device": {"ids": null, "colour": "red"}, "vmi": {"namespace": "demo", "name": "x"}}\n'
    )

    request = load_line(codec_of(BindRequest), line)

    assert request.vmi == VmiRef("demo", "x")
    assert request.slot is None
    assert not request.force


def test_whole_number_is_taken_for_any_other_one() -> None:
    numbers = load_line(codec_of(Numbers), b'{"round_trip_ms": 3}')

    assert type(numbers.round_trip_ms) is float
    assert numbers.round_trip_ms == 3.0


@pytest.mark.parametrize(
    ("kind", "line", "complaint"),
    [
        (VmiRef, b"", "expected a line of JSON: Expecting value at character 0"),
        (VmiRef, b"{", "expected a line of JSON: Expecting property name"),
        (VmiRef, b'{"name": "\xff"}', "it is no UTF-8"),
        (VmiRef, b"[" * 100_000, "it is nested too deeply"),
        (VmiRef, b"9" * 5000, "a number is not usable"),
        (Numbers, b'{"round_trip_ms": NaN}', "a number is not usable"),
        (Numbers, b'{"round_trip_ms": 1e999}', "Numbers.round_trip_ms: expected a number that"),
        (Numbers, b'{"round_trip_ms": 1' + b"0" * 400 + b"}", "Numbers.round_trip_ms: expected"),
        (Numbers, b'{"bytes_up": true}', "Numbers.bytes_up: expected a whole number, got true or"),
        (Numbers, b'{"bytes_up": 1.0}', "Numbers.bytes_up: expected a whole number, got a number"),
        (VmiRef, b"7", "expected an object, got a whole number"),
        (VmiRef, b'{"namespace": "demo"}', "VmiRef without name"),
        (VmiRef, b'{"namespace": 7, "name": "x"}', "VmiRef.namespace: expected a text, got a whol"),
        (
            BindRequest,
            b'{"device": {"ids": {"vendor_id": null, "product_id": 1}}}',
            "VendorProduct",
        ),
        (interface.VmisSeen, b'{"vmis": null}', "VmisSeen.vmis: expected a list, got null"),
        (interface.Handover, b'{"kind": "hot"}', "Handover.kind: expected a HandoverKind"),
        (VmiNews, b'{"type": "VmiLost"}', "expected as type one of VmisSeen, VmiChanged, VmiRemov"),
        (VmiNews, b'{"type": ["VmiRemoved"]}', "expected as type one of"),
        (VmiNews, b'{"vmi": {"namespace": "demo", "name": "x"}}', "expected as type one of"),
    ],
)
def test_line_that_is_no_message_is_refused_with_what_is_wrong(
    kind: object, line: bytes, complaint: str
) -> None:
    with pytest.raises(MessageMalformed) as caught:
        load_line(codec_of(kind), line)

    assert complaint in str(caught.value)


def test_text_that_does_not_fit_is_not_repeated() -> None:
    with pytest.raises(MessageMalformed) as caught:
        load_line(codec_of(VendorProduct), b'{"vendor_id": "s3cret", "product_id": 1}')

    assert "s3cret" not in str(caught.value)


@given(line=st.binary() | JSON.map(lambda data: json.dumps(data).encode()))
def test_any_bytes_are_a_message_or_refused(line: bytes) -> None:
    try:
        change: object = load_line(codec_of(Change), line)
    except MessageMalformed:
        change = None

    assert change is None or isinstance(change, Change)


# -- errors -----------------------------------------------------------------------------------


def all_errors() -> list[type[VmRedirError]]:
    return [
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, VmRedirError)
    ]


@pytest.mark.parametrize("kind", all_errors())
def test_every_error_of_ours_comes_back_as_its_class(kind: type[VmRedirError]) -> None:
    trouble = Trouble(kind.__name__, "it did not work", "Try again.", int(kind.exit_code))

    error = error_of(trouble)

    assert type(error) is kind
    assert str(error) == "it did not work"
    assert error.hint == "Try again."
    assert Trouble.of(error) == trouble


def test_error_that_was_really_raised_comes_back_as_it_was() -> None:
    raised = SlotsFull(VmiRef("demo", "fedora"))

    error = error_of(Trouble.of(raised))

    assert (str(error), error.hint, error.retryable) == (str(raised), raised.hint, True)
    assert error.exit_code is ExitCode.TAKEN


def test_error_without_a_hint_has_none() -> None:
    assert error_of(Trouble("UsbError", "no", "", 3)).hint is None


@pytest.mark.parametrize("name", ["InternalError", "ExitCode", "Danger", "exit"])
def test_what_is_no_error_of_ours_is_just_an_error(name: str) -> None:
    error = error_of(Trouble(name, "oh", "", 1))

    assert type(error) is VmRedirError
    assert str(error) == "oh"


def test_first_error_of_ours_speaks_for_all_that_ended_a_group() -> None:
    first, second = ExceptionGroup("", [UsbError("gone")]), ClusterError("down")

    assert trouble_of(ExceptionGroup("", [first, second])) == Trouble("UsbError", "gone", "", 3)


def test_bug_among_errors_of_ours_is_not_hidden() -> None:
    inner = ExceptionGroup("", [ClusterError("down"), KeyError("x")])

    trouble = trouble_of(ExceptionGroup("", [UsbError("gone"), inner]))

    assert trouble == Trouble("InternalError", "internal error: KeyError('x')", "", 1)
