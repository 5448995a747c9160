"""Composition root: options -> a service with its adapters.

Adapters are imported when they are asked for: the command line must start fast.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """What the user said about the cluster and the devices; spelled as kubectl's flags.

    Attributes:
        kubeconfig: File to use, and no other; None for kubectl's rules.
        request_timeout_s: How long one request may take; None for no limit of the user's.
        lab: Use the running lab: its cluster and its devices.
        virtual: Use virtual devices with the cluster of the kubeconfig.
    """

    kubeconfig: str | None = None
    context: str | None = None
    cluster: str | None = None
    user: str | None = None
    namespace: str | None = None
    server: str | None = None
    token: str | None = None
    impersonate_user: str | None = None
    impersonate_groups: tuple[str, ...] = ()
    impersonate_uid: str | None = None
    insecure: bool = False
    request_timeout_s: float | None = None
    lab: bool = False
    virtual: bool = False
