"""The JSON schemas in docs/schemas are those of what is printed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator, ValidationError

from kubectl_vmredir.cli.output import API_VERSION
from kubectl_vmredir.model import JsonValue, to_json
from tests.support.json_schemas import FOLDER, SCHEMAS, text_of, validate
from tests.support.scripted_service import redirection


@pytest.mark.parametrize("kind", SCHEMAS)
def test_schema_is_the_one_that_is_kept(kind: str) -> None:
    kept = (FOLDER / f"{kind}.json").read_text(encoding="utf-8")

    assert kept == text_of(SCHEMAS[kind]), "run: python -m tests.support.json_schemas"


def test_no_schema_is_kept_of_what_is_not_printed_any_more() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(SCHEMAS)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_schema_is_one_of_2020_12(kind: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[kind])


def document(**status: JsonValue) -> dict[str, JsonValue]:
    """Return a document with a status, of which some is changed."""
    fields = to_json(replace(redirection(), reason="because"))
    assert isinstance(fields, dict)
    return {"apiVersion": API_VERSION, "kind": "Redirection", "status": fields | status}


def test_what_is_printed_is_valid() -> None:
    validate(document())


@pytest.mark.parametrize(
    "wrong", [{"state": "lost"}, {"id": 1}, {"trouble": "x"}, {"vmi": {"name": "fedora"}}]
)
def test_what_is_never_printed_is_not_valid(wrong: dict[str, JsonValue]) -> None:
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMAS["Redirection"]).validate(document(**wrong))


def test_what_the_schema_does_not_name_may_be_added_by_a_later_version() -> None:
    later = document(news=True)

    Draft202012Validator(SCHEMAS["Redirection"]).validate(later)
    with pytest.raises(ValidationError):
        validate(later)


def test_what_a_field_means_is_said() -> None:
    schema = json.loads((FOLDER / "EventList.json").read_text(encoding="utf-8"))

    gap = schema["$defs"]["Handover"]["properties"]["link_gap_ms"]
    assert gap["description"].startswith("From the last byte that the source consumed")
