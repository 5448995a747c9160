"""The gate: the one place that says whether an act on a VM is allowed now. Pure.

The rules of safety of docs/migration.md, learned by losing test VMs (docs/facts/qemu.md). Each is
a function, so that a test can take one out and show the harm.

When nothing is certain because the watch is down, or has not told all yet, the answer is to
wait: a migration may be under way unseen. That costs little. A watch that is down means as a
rule that the API server cannot be reached, so that there is nobody to dial and nothing left to
close; and a user who wants to leave all the same is asked (``Service.shutdown``).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kubectl_vmredir.service.migration import MigrationPhase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubectl_vmredir.model import VmiRef
    from kubectl_vmredir.service.migration import Migration, VmiFacts


class Act(enum.StrEnum):
    """What one may want to do to a VM."""

    BIND = "bind"
    DIAL = "dial"
    """Open a link over the api route."""
    ATTACH = "attach"
    """Send the first bytes on a fresh link, which plugs the device in."""
    REPLUG = "replug"
    """Unplug the device, or plug it in anew, on a link that is open."""
    CLOSE = "close"
    """Close a link that is open."""
    UNBIND = "unbind"
    EXIT = "exit"
    """End the process, and with it every link."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """The act harms nobody now. It is to be done at once: the answer is old after an await."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The act may do harm now.

    Attributes:
        reason: What is waited for, for people; may hold untrusted text of the cluster.
        until: When asking again may have another answer even if nothing happens, on the
            caller's monotonic clock; None if only news can change it.
    """

    reason: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """One act, and all that counts for the answer.

    Attributes:
        act: What is wanted.
        ref: To which VMI.
        facts: What is known of it.
        now: Seconds on the clock of the facts.
        greeted: Whether QEMU's hello has come on the link in question.
    """

    act: Act
    ref: VmiRef
    facts: VmiFacts
    now: float
    greeted: bool = True


_PLUGS: Final = frozenset({Act.BIND, Act.DIAL, Act.ATTACH, Act.REPLUG, Act.UNBIND})
_CLOSES: Final = frozenset({Act.CLOSE, Act.UNBIND, Act.EXIT})


def nothing_unseen(question: Question) -> Wait | None:
    """While the watch is down, take it that a migration is in flight."""
    if question.facts.certain(question.now):
        return None
    doubt = f" ({question.facts.doubt})" if question.facts.doubt else ""
    reason = f"news of VM {question.ref}: whether it is migrating is not known{doubt}"
    return Wait(reason, question.facts.certain_at)


def no_plugging_in_flight(question: Question) -> Wait | None:
    """Rule 1: in flight there is no bind, unbind, dial or replug into the source.

    An enumeration that the switch-over cuts can abort the target (3 of 9 tries).
    """
    if question.act not in _PLUGS:
        return None
    return _wait_for_landing(question)


def dial_leads_to_target(question: Question) -> Wait | None:
    """Rule 1, its end on the api route: no dial until ``nodeName`` leads to the target.

    Before that the route leads to the source, whose QEMU may live on (post-copy) and take the
    device for a guest that is no longer there.
    """
    if question.act is not Act.DIAL or question.facts.ended:
        return None
    for migration in question.facts.migrations:
        if migration.flip_awaited:
            target = migration.target_node or "its new node"
            return Wait(f"the cluster to lead to VM {question.ref} on {target}")
    return None


def no_closing_in_flight(question: Question) -> Wait | None:
    """Rule 2: in flight no link is closed, whatever the reason.

    A source link that breaks before the state is saved can crash the target (13 of 13 tries
    without a client on the target's slot).
    """
    if question.act not in _CLOSES:
        return None
    return _wait_for_landing(question)


def silent_until_hello(question: Question) -> Wait | None:
    """Rule 3: on a fresh link send nothing before QEMU's own hello.

    Without one the link is a standby, or the backlog of a busy slot, and a byte of ours is read
    in the middle of another conversation: it aborts the VM.
    """
    if question.act is Act.ATTACH and not question.greeted:
        return Wait(f"the hello of VM {question.ref}")
    return None


Rule = Callable[[Question], Wait | None]
"""Returns what to wait for, or None if it has no objection."""

RULES: Final[tuple[Rule, ...]] = (
    nothing_unseen,
    no_plugging_in_flight,
    dial_leads_to_target,
    no_closing_in_flight,
    silent_until_hello,
)


class Gate:
    """Answers questions by all of the rules.

    Args:
        facts: Returns what is known of a VMI.
        rules: Asked in order; the first objection is the answer.
    """

    def __init__(
        self,
        facts: Callable[[VmiRef], VmiFacts],
        rules: Sequence[Rule] = RULES,
    ) -> None:
        self._facts = facts
        self._rules = tuple(rules)

    def may(self, act: Act, vmi: VmiRef, now: float, *, greeted: bool = True) -> Allowed | Wait:
        """Return whether an act on a VM is allowed now, or what to wait for.

        Args:
            act: What is wanted.
            vmi: To which VMI.
            now: Seconds on the clock of the facts.
            greeted: Whether QEMU's hello has come on the link in question.
        """
        question = Question(act, vmi, self._facts(vmi), now, greeted)
        for rule in self._rules:
            if (wait := rule(question)) is not None:
                return wait
        return Allowed()


def _wait_for_landing(question: Question) -> Wait | None:
    if (migration := question.facts.in_flight(question.now)) is None:
        return None
    return Wait(_landing_of(question.ref, migration), migration.reopens_at)


def _landing_of(ref: VmiRef, migration: Migration) -> str:
    if migration.reopens_at is not None:
        return f"VM {ref} to settle after its migration"
    if migration.phase is MigrationPhase.ANNOUNCED:
        return f"the migration of VM {ref}, which is announced, to run or be cancelled"
    way = f" from {migration.source_node} to {migration.target_node}"
    known = migration.source_node and migration.target_node
    return f"the migration of VM {ref}{way if known else ''} to end ({migration.phase})"
