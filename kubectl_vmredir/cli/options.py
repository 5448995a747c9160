"""Flags that commands share, spelled as kubectl spells them.

kubectl takes its flags anywhere after the plugin's name, so they are accepted before and after
the command: ``kubectl vmredir -n demo slots`` and ``kubectl vmredir slots -n demo``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from kubectl_vmredir.bootstrap import Options
from kubectl_vmredir.cli.log import start_logging
from kubectl_vmredir.errors import UsageError
from kubectl_vmredir.model import DeviceSelector, VmiRef

_VERBOSITY: Final = f"{__name__}.level"

OUTPUT_FORMATS: Final = ("json", "yaml", "wide", "name")

_Command = TypeVar("_Command", bound=Callable[..., Any])

_CLUSTER_FLAGS: Final = (
    click.Option(["--kubeconfig"], metavar="FILE", help="Kubeconfig to use, and no other."),
    click.Option(["--context"], metavar="NAME", help="Context of the kubeconfig."),
    click.Option(["--cluster"], metavar="NAME", help="Cluster of the kubeconfig."),
    click.Option(["--user"], metavar="NAME", help="User of the kubeconfig."),
    click.Option(["-n", "--namespace"], metavar="NAME", help="Namespace of the VMs."),
    click.Option(["-s", "--server"], metavar="URL", help="Address of the API server."),
    click.Option(["--token"], metavar="TOKEN", help="Bearer token for the API server."),
    click.Option(
        ["--as", "impersonate_user"], metavar="USER", help="User to impersonate; needs the right."
    ),
    click.Option(
        ["--as-group", "impersonate_groups"],
        metavar="GROUP",
        multiple=True,
        help="Group to impersonate; may be repeated.",
    ),
    click.Option(["--as-uid", "impersonate_uid"], metavar="UID", help="UID to impersonate."),
    click.Option(
        ["--insecure-skip-tls-verify", "insecure"],
        is_flag=True,
        help="Do not check the API server's certificate. Anybody in between can read it all.",
    ),
    click.Option(
        ["--request-timeout"],
        metavar="TIME",
        default="0",
        help="How long one request may take, such as 30s or 2m; 0 means no limit of yours.",
    ),
    click.Option(["--lab"], is_flag=True, help="Use the running lab: its VMs and its devices."),
    click.Option(
        ["--virtual"],
        is_flag=True,
        help="Use virtual devices with the cluster of the kubeconfig, for tests and bug reports.",
    ),
    click.Option(
        ["-v", "--v", "verbosity"],
        type=click.IntRange(0, 10),
        default=0,
        metavar="LEVEL",
        help="Log to stderr: 2 tells changes of state, 4 and more tells packets.",
    ),
)


class ClusterGroup(click.Group):
    """A group that takes kubectl's flags in front of the command."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own signature
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *_CLUSTER_FLAGS]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; see :meth:`ClusterCommand.parse_args`."""
        return super().parse_args(ctx, _plain_switches(args, self.params))

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Keep the flags that were given for the command."""
        for name, value, given in _taken_flags(ctx):
            if given:
                ctx.meta[f"{__name__}.{name}"] = value
        return super().invoke(ctx)


class ClusterCommand(click.Command):
    """A command that takes kubectl's flags besides its own, and :class:`Options` as its object."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - click's own signature
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *_CLUSTER_FLAGS]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, where a flag without a value may have one of kubectl's."""
        return super().parse_args(ctx, _plain_switches(args, self.params))

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Collect the flags, those after the command first, and run the command."""
        shared = {
            name: value if given else ctx.meta.get(f"{__name__}.{name}", value)
            for name, value, given in _taken_flags(ctx)
        }
        ctx.meta[_VERBOSITY] = shared.pop("verbosity")
        start_logging(ctx.meta[_VERBOSITY])
        shared["request_timeout_s"] = parse_duration(shared.pop("request_timeout"))
        ctx.obj = Options(**shared)
        return super().invoke(ctx)


def verbosity() -> int:
    """Return how much log was asked for with the command that runs."""
    level: int = click.get_current_context().meta[_VERBOSITY]
    return level


def _plain_switches(args: list[str], params: Sequence[click.Parameter]) -> list[str]:
    """Return arguments with ``--wait=false`` as ``--no-wait``: click's switches take no value."""
    spelled: dict[str, list[str]] = {}
    for param in params:
        if isinstance(param, click.Option) and param.is_flag:
            for name in param.opts:
                spelled |= {f"{name}={true}": [name] for true in _TRUE}
                spelled |= {f"{name}={false}": param.secondary_opts for false in _FALSE}
    ours = args.index("--") if "--" in args else len(args)
    plain = [word for arg in args[:ours] for word in spelled.get(arg, [arg])]
    return plain + args[ours:]


# As strconv.ParseBool of Go reads them.
_TRUE: Final = ("1", "t", "T", "TRUE", "true", "True")
_FALSE: Final = ("0", "f", "F", "FALSE", "false", "False")


def _taken_flags(ctx: click.Context) -> list[tuple[str, Any, bool]]:
    """Take the shared flags out of what the callback gets: name, value, whether it was given."""
    return [
        (
            name,
            ctx.params.pop(name),
            ctx.get_parameter_source(name) is not ParameterSource.DEFAULT,
        )
        for flag in _CLUSTER_FLAGS
        if (name := flag.name)
    ]


def timeout_flag(command: _Command) -> _Command:
    """Add ``--timeout``."""
    return click.option(
        "--timeout",
        "timeout_s",
        callback=lambda _context, _option, text: parse_duration(text),
        metavar="TIME",
        default="0",
        help="How long to wait, such as 30s or 2m; 0 means as long as it takes.",
    )(command)


def output_flags(command: _Command) -> _Command:
    """Add ``-o`` and ``--no-headers``."""
    command = click.option(
        "--no-headers", is_flag=True, help="Leave the line of column names out."
    )(command)
    return click.option(
        "-o",
        "--output",
        "output",
        type=click.Choice(OUTPUT_FORMATS),
        help="How to print; stable for scripts with json and yaml.",
    )(command)


def parse_duration(text: str) -> float | None:
    """Read kubectl's durations: ``0`` (None: no limit), ``30``, ``30s``, ``1m30s``, ``500ms``.

    Raises:
        UsageError: If it is none.
    """
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    if re.fullmatch(r"\d+", text):
        return float(text) or None
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", text):
        raise UsageError(f"expected a time such as 30s or 2m, got {text!r}")
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", text)
    return sum(float(number) * units[unit] for number, unit in parts) or None


def parse_device(text: str) -> DeviceSelector:
    """Read a device argument.

    Raises:
        UsageError: If it names no device.
    """
    try:
        return DeviceSelector.parse(text)
    except ValueError as exc:
        raise UsageError(str(exc), hint="List devices with: kubectl vmredir devices") from exc


_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def parse_vmi(text: str, namespace: str) -> VmiRef:
    """Read a VM argument: ``x``, ``vm/x`` or ``vmi/x``.

    Raises:
        UsageError: If it names no VM.
    """
    kind, _, name = text.rpartition("/")
    if kind not in ("", *_KINDS) or not _NAME.fullmatch(name):
        raise UsageError(
            f"expected a VM as NAME, vm/NAME or vmi/NAME, got {text!r}",
            hint="List VMs with: kubectl vmredir slots -A",
        )
    return VmiRef(namespace, name)


_KINDS: Final = (
    "vm", "vms", "virtualmachine", "virtualmachines",
    "vmi", "vmis", "virtualmachineinstance", "virtualmachineinstances",
)  # fmt: skip


def parse_target(text: str, namespace: str) -> tuple[VmiRef, str | None]:
    """Read ``VMI`` or ``VMI/SLOT``, where VMI is as :func:`parse_vmi` takes it.

    Raises:
        UsageError: If it names no VM.
    """
    parts = text.split("/")
    if parts[0] in _KINDS and len(parts) > 1:
        parts[:2] = ["/".join(parts[:2])]
    if len(parts) > 2 or not parts[-1]:
        raise UsageError(f"expected VMI or VMI/SLOT, got {text!r}")
    return parse_vmi(parts[0], namespace), parts[1] if len(parts) == 2 else None
