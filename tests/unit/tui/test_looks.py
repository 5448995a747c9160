from __future__ import annotations

import pytest
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, MONOKAI
from textual.color import Color
from textual.theme import BUILTIN_THEMES

from kubectl_vmredir.model import Danger, RedirectionState
from kubectl_vmredir.tui import looks
from kubectl_vmredir.tui.looks import Tone, theme_variables
from tests.support.scripted_service import FEDORA, vmi

READABLE = 4.5
"""WCAG 2.1, level AA, for text of normal size."""

BACKGROUNDS = ("background", "surface", "panel", "row-cursor", "row-resting")


def luminance(color: Color) -> float:
    def linear(value: float) -> float:
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(part) for part in color.normalized)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Color, other: Color) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("name", ["textual-dark", "textual-light"])
@pytest.mark.parametrize("tone", Tone)
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_words_of_a_state_can_be_read(name: str, tone: Tone, background: str) -> None:
    theme = BUILTIN_THEMES[name]
    variables = {**theme.to_color_system().generate(), **theme_variables(theme)}

    assert contrast(Color.parse(variables[tone]), Color.parse(variables[background])) >= READABLE


@pytest.mark.parametrize("tone", Tone)
def test_words_of_a_state_can_be_read_in_the_colours_of_a_dark_terminal(tone: Tone) -> None:
    colour = Color.parse(theme_variables(BUILTIN_THEMES["ansi-dark"])[tone])
    terminal = MONOKAI
    number = colour.ansi
    assert number is not None
    triplet = terminal.foreground_color if number < 0 else terminal.ansi_colors[number]

    background = Color(*terminal.background_color)

    assert contrast(Color(*triplet), background) >= READABLE


def test_a_light_terminal_has_colours_of_its_own() -> None:
    dark = theme_variables(BUILTIN_THEMES["ansi-dark"])
    light = theme_variables(BUILTIN_THEMES["ansi-light"])

    assert dark[Tone.BUSY] != light[Tone.BUSY]
    assert DEFAULT_TERMINAL_THEME.ansi_colors[Color.parse(light[Tone.BAD]).ansi or 0]


def test_each_state_is_told_by_its_word_and_has_a_glyph_of_one_cell() -> None:
    shown = [looks.of_state(state) for state in RedirectionState]

    assert [look.word for look in shown] == [str(state) for state in RedirectionState]
    assert all(len(look.glyph) == 1 and look.content.plain[0] == look.glyph for look in shown)


def test_states_that_differ_in_colour_differ_in_their_glyph() -> None:
    tones: dict[str, set[Tone]] = {}
    for glyph, tone in looks.REDIRECTION.values():
        tones.setdefault(glyph, set()).add(tone)

    assert all(len(found) == 1 for found in tones.values())


@pytest.mark.parametrize(
    ("phase", "word"),
    [("Running", "running"), ("Failed", "failed"), ("Succeeded", "stopped"), ("", "new"),
     ("Scheduling", "scheduling")],
)  # fmt: skip
def test_a_vm_is_told_by_its_phase(phase: str, word: str) -> None:
    assert looks.of_vmi(vmi(FEDORA, phase=phase).vmi).word == word


def test_each_danger_has_a_look() -> None:
    assert {looks.of_danger(danger).word for danger in Danger} == {
        "refused", "needs force", "needs consent", "note",
    }  # fmt: skip
