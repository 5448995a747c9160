"""The command line of the program: what can be typed after ``:``, and how it goes on.

A command is a word, and perhaps an argument. Those that a key does as well come from the bindings,
so that there is one list of what can be done.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.tui.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.binding import Binding

Completions = Callable[[World], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Command:
    """Something that can be typed.

    Attributes:
        name: The word.
        action: Textual's name of what it does.
        argument: What the argument is, for people; empty if there is none.
        completions: Arguments that are known.
        needed: Whether the argument must be there.
    """

    name: str
    action: str
    argument: str = ""
    completions: Completions = lambda world: ()
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Typed:
    """A command as it was typed.

    Attributes:
        command: The command.
        argument: Its argument; empty if there is none.
    """

    command: Command
    argument: str


def namespaces(world: World) -> Sequence[str]:
    """Return the namespaces that were seen."""
    known = {ref.namespace for ref in world.vmis or {}}
    return sorted(known | ({world.session.namespace} if world.session is not None else set()))


def _contexts(world: World) -> Sequence[str]:
    return world.contexts


_WITH_ARGUMENT: Final = (
    Command("ns", "namespace_named", "namespace", namespaces, needed=True),
    Command("ctx", "context_named", "context", _contexts, needed=True),
    Command("slots", "slots_named", "a,b,c", needed=True),
    Command("filter", "filter_for", "words"),
)
_SHORT: Final = {
    "dev": "pane(1)", "devices": "pane(1)", "vm": "pane(2)", "vms": "pane(2)",
    "story": "pane(3)", "q": "app.quit",
}  # fmt: skip


def commands(bindings: Iterable[Binding]) -> Sequence[Command]:
    """Return all commands.

    Args:
        bindings: Keys whose actions can be typed as well; an action of the program itself has
            ``app.`` before it.
    """
    found = {command.name: command for command in _WITH_ARGUMENT}
    for binding in bindings:
        name = binding.description.lower().replace(" ", "-")
        if name and "(" not in binding.action.removeprefix("act("):
            found.setdefault(name, Command(name, binding.action))
    for name, action in _SHORT.items():
        found.setdefault(name, Command(name, action))
    return sorted(found.values(), key=lambda command: command.name)


def parse(text: str, known: Sequence[Command]) -> Typed | str:
    """Return what was typed, or what is wrong with it."""
    word, _, argument = text.strip().partition(" ")
    argument = argument.strip()
    command = next((one for one in known if one.name == word), None)
    if command is None:
        names = [one.name for one in known]
        close = difflib.get_close_matches(word, names, n=1)
        return f"there is no command {word!r}" + (f": did you mean {close[0]!r}?" if close else "")
    if command.needed and not argument:
        return f"{word} needs a {command.argument}"
    if argument and not command.argument:
        return f"{word} takes nothing after it"
    return Typed(command, argument)


def completion(text: str, known: Sequence[Command], world: World) -> str | None:
    """Return the text as it may go on; None if nobody knows."""
    word, space, argument = text.partition(" ")
    if not space:
        return next((one.name for one in known if word and one.name.startswith(word)), None)
    command = next((one for one in known if one.name == word), None)
    if command is None:
        return None
    begun = argument.lstrip()
    found = next((one for one in command.completions(world) if one.startswith(begun)), None)
    return f"{word} {found}" if found is not None else None
