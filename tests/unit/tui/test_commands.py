from __future__ import annotations

import pytest
from textual.binding import Binding

from kubectl_vmredir.service.interface import VmisSeen
from kubectl_vmredir.tui.commands import Typed, commands, completion, parse
from kubectl_vmredir.tui.keys import full
from kubectl_vmredir.tui.screens.main_screen import MainScreen
from kubectl_vmredir.tui.session import Session
from kubectl_vmredir.tui.world import World
from tests.support.scripted_service import NOON, VMIS, ScriptedService

KNOWN = commands([*full(MainScreen.BINDINGS), Binding("q", "app.quit", "Quit")])


@pytest.fixture
def world() -> World:
    world = World()
    world.opened(Session(ScriptedService(), "default"))
    world.contexts = ("lab", "prod")
    world.hear_of_vmis(VmisSeen(VMIS), NOON)
    return world


@pytest.mark.parametrize(
    ("text", "action", "argument"),
    [
        ("unbind", "act('unbind')", ""),
        ("  bind ", "bind", ""),
        ("ns prod", "namespace_named", "prod"),
        ("ctx  lab", "context_named", "lab"),
        ("slots a,b", "slots_named", "a,b"),
        ("filter yubi !key", "filter_for", "yubi !key"),
        ("filter", "filter_for", ""),
        ("vm", "pane(2)", ""),
        ("q", "app.quit", ""),
    ],
)
def test_what_is_typed_is_what_a_key_does(text: str, action: str, argument: str) -> None:
    typed = parse(text, KNOWN)

    assert isinstance(typed, Typed)
    assert (typed.command.action, typed.argument) == (action, argument)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("migrat", "there is no command 'migrat': did you mean 'migrate'?"),
        ("xyzzy", "there is no command 'xyzzy'"),
        ("ns", "ns needs a namespace"),
        ("unbind all", "unbind takes nothing after it"),
    ],
)
def test_what_cannot_be_meant_is_said_to_be_so(text: str, wrong: str) -> None:
    assert parse(text, KNOWN) == wrong


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("mi", "migrate"), ("ctx p", "ctx prod"), ("ctx ", "ctx lab"), ("ns de", "ns default"),
        ("ns dem", "ns demo"), ("", None), ("zz", None), ("ctx x", None), ("zz a", None),
        ("unbind a", None),
    ],
)  # fmt: skip
def test_a_command_is_completed_from_what_is_known(
    world: World, text: str, whole: str | None
) -> None:
    assert completion(text, KNOWN, world) == whole


def test_every_key_that_needs_no_place_can_be_typed() -> None:
    names = {command.name for command in KNOWN}

    assert {"bind", "unbind", "pause", "reconnect", "migrate", "yaml", "log", "doctor"} <= names
    assert len(names) == len(KNOWN)
