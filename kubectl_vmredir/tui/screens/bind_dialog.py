"""What a bind would do, and whether to do it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Button, Checkbox

from kubectl_vmredir.errors import DeviceUnsafe, VmRedirError
from kubectl_vmredir.model import Danger, DeviceSelector, HandoverKind
from kubectl_vmredir.service.interface import TRIAL_S, Trouble
from kubectl_vmredir.tui import command_lines
from kubectl_vmredir.tui.drawing import plain, printable
from kubectl_vmredir.tui.looks import Tone, of_danger
from kubectl_vmredir.tui.screens.dialog import CANCEL, Choice, Dialog, command_line
from kubectl_vmredir.tui.selection import device_name
from kubectl_vmredir.tui.widgets.consent import Consent
from kubectl_vmredir.tui.widgets.live_text import LiveText
from kubectl_vmredir.tui.widgets.pairs import Pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from textual.widget import Widget

    from kubectl_vmredir.model import LocalDevice
    from kubectl_vmredir.service.interface import BindPlan, BindRequest
    from kubectl_vmredir.tui.session import Session
    from kubectl_vmredir.tui.widgets.pairs import Pair

BIND = "bind"

_QUIET = Tone.QUIET.style

_MIGRATION = {
    HandoverKind.COLD: "the VM loses the device while it moves, and gets it back when the cluster "
    "leads to its new node",
    HandoverKind.WARM: "the VM loses the device while it moves, and gets it back as soon as it "
    "runs on its new node",
    HandoverKind.SEAMLESS: "the VM keeps the device",
}


class BindDialog(Dialog["BindRequest"]):
    """Shows a plan, and asks for consent where one is needed; the answer is what to bind.

    Args:
        session: Plans it.
        request: What is wished for.
        device: The device of the request.
        clock: Returns seconds.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "copy", "Copy", tooltip="Copy the command line that does the same."),
    ]

    def __init__(
        self,
        session: Session,
        request: BindRequest,
        device: LocalDevice,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(f"Bind {device_name(device)}", clock)
        self._session = session
        self._request = request
        self._device = device
        self._plan = Pairs()
        self._rows: list[Pair] = []
        self._command = LiveText(classes="dialog--command")
        self._force = Consent("take it although it is in use here (--force)", id="force")
        self._allow = Consent(
            f"let it go; it comes back after {TRIAL_S:.0f} s unless kept (--allow keyboard)",
            id="allow",
        )

    def body(self) -> Iterable[Widget]:
        """See :meth:`Dialog.body`."""
        return (self._plan, self._force, self._allow, self._command)

    def choices(self) -> Iterable[Choice]:
        """See :meth:`Dialog.choices`."""
        return (Choice(CANCEL, "Cancel"), Choice(BIND, "Bind"))

    def chosen(self, choice: str) -> None:
        """See :meth:`Dialog.chosen`."""
        self.dismiss(self._request)

    def on_mount(self) -> None:
        """Look at what it would do."""
        self._look(None)
        self._make_plan()

    def on_checkbox_changed(self, event: Checkbox.Changed) -> None:
        """Plan again, with the consent that was given or taken back."""
        event.stop()
        self._request = replace(
            self._request, force=self._force.value, allow_keyboard=self._allow.value
        )
        self._make_plan()

    def action_copy(self) -> None:
        """Copy the command line."""
        if command := command_lines.bind(self._session, self._request):
            self.app.copy_to_clipboard(command)
            self.notify(command, title="Copied", markup=False)

    def _make_plan(self) -> None:
        self.run_worker(self._planned(), name="plan", exclusive=True)

    async def _planned(self) -> None:
        try:
            plan = await self._session.service.plan(self._request)
        except VmRedirError as error:
            self._show_trouble(Trouble.of(error))
        else:
            self._show_plan(plan)

    def _look(self, plan: BindPlan | None) -> None:
        request = self._request
        slot = (plan.slot if plan is not None else request.slot) or "any that is free"
        rows: list[Pair] = [
            (
                "Device",
                Content.assemble(
                    (printable(device_name(self._device)), "bold"),
                    (f"  {self._device.kind}  {DeviceSelector.of(self._device)}", _QUIET),
                ),
            ),
            (
                "Into",
                Content.assemble(
                    (printable(str(request.vmi)), "bold"), (" slot ", _QUIET), printable(slot)
                ),
            ),
        ]
        if plan is None:
            rows.append(("Checks", Content.styled("◌ looking at the device…", Tone.BUSY.style)))
        else:
            rows += _findings(plan)
        self._rows = rows
        self._plan.show_pairs(rows)
        command = command_lines.bind(self._session, request)
        self._command.show(
            command_line(command) if command else plain(command_lines.why_none(self._session))
        )
        self.query_one(f"#{BIND}", Button).disabled = plan is None or plan.trouble is not None

    def _show_plan(self, plan: BindPlan) -> None:
        self._look(plan)
        dangers = {finding.danger for finding in plan.use.findings}
        curable = Danger.NEVER not in dangers
        self._force.display = curable and Danger.FORCE in dangers
        self._allow.display = curable and Danger.ALLOW in dangers
        danger = bool(dangers - {Danger.NOTE}) or plan.trouble is not None
        if self.focused is None or not danger:
            self.ask(danger=danger, usual=BIND)

    def _show_trouble(self, trouble: Trouble) -> None:
        self._look(None)
        self._plan.show_pairs([*self._rows[:2], ("Refused", Content("\n").join(_trouble(trouble)))])
        self.ask(danger=True, usual=CANCEL)


def _findings(plan: BindPlan) -> list[Pair]:
    """Return the rows that tell what a plan found."""
    doubt = f"\nbecause {printable(plan.handover_doubt)}" if plan.handover_doubt else ""
    rows: list[Pair] = [
        (
            "Migration",
            Content.assemble(
                (str(plan.handover), "bold"), f": {_MIGRATION[plan.handover]}", (doubt, _QUIET)
            ),
        )
    ]
    for finding in plan.use.findings:
        hint = f"\n{printable(finding.hint)}" if finding.hint else ""
        rows.append(
            (
                "Here",
                Content.assemble(
                    of_danger(finding.danger).content,
                    f": {printable(finding.message)}",
                    (hint, _QUIET),
                ),
            )
        )
    if not plan.use.findings:
        rows.append(("Here", Content.styled("● nothing needs it", Tone.GOOD.style)))
    said = {finding.message for finding in plan.use.findings}
    rows += [("Note", plain(note)) for note in plan.notes if note not in said]
    if plan.trouble is not None and plan.trouble.kind != DeviceUnsafe.__name__:  # said above
        rows.append(("Refused", Content("\n").join(_trouble(plan.trouble))))
    return rows


def _trouble(trouble: Trouble) -> list[Content]:
    return [
        Content.styled(f"✖ {printable(trouble.message)}", Tone.BAD.style),
        *(plain(hint) for hint in trouble.hint.splitlines()),
    ]
