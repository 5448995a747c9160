"""Which faults happen when, and to whom: all of it from one seed. Pure."""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final


class Kind(enum.StrEnum):
    """What happens."""

    NETWORK_CUT = "network cut"
    """Nothing gets from this machine to the cluster of one user, or back."""
    API_RESTART = "API restart"
    """The API server is gone, with all streams through it, and comes back."""
    TOKEN_EXPIRED = "token expired"
    """The cluster takes the token no longer; a credential plugin has a new one."""
    LOGIN_EXPIRED = "login expired"
    """The same, but a person must log in, and takes their time."""
    MIGRATION = "migration"
    FAILED_MIGRATION = "failed migration"
    """The target dies just before it would run."""
    WATCH_GONE = "410 Gone"
    """The cluster has forgotten what happened since the version that watches stand at."""
    HOST_KILLED = "host process killed"
    """The usb-host of a device dies in the middle of whatever it does."""
    VM_RESTARTED = "VM restarted"
    VM_RECREATED = "VM deleted, created"


_WEIGHTS: Final = {
    # What hits everybody is rarer: else nobody would ever be up for the rest.
    Kind.NETWORK_CUT: 2,
    Kind.API_RESTART: 1,
    Kind.TOKEN_EXPIRED: 2,
    Kind.LOGIN_EXPIRED: 1,
    Kind.MIGRATION: 6,
    Kind.FAILED_MIGRATION: 3,
    Kind.WATCH_GONE: 2,
    Kind.HOST_KILLED: 6,
    Kind.VM_RESTARTED: 3,
    Kind.VM_RECREATED: 3,
}

INTERVAL_S: Final = 1.0
"""One fault in each."""

_LONGEST_S: Final = {
    Kind.NETWORK_CUT: 30.0,  # a link is given up after 20 s without an answer
    Kind.API_RESTART: 3.0,
    Kind.LOGIN_EXPIRED: 10.0,
    Kind.VM_RECREATED: 3.0,
}
_SHORTEST_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        at_s: When it begins, in seconds since the first could.
        kind: What it is.
        victim: Number of the redirection that it hits; others may be hit with it.
        lasts_s: When what lasts is over, in seconds after its beginning; short times are usual.
        silent: Whether a network that is cut says nothing, or resets what goes through it.
    """

    at_s: float
    kind: Kind
    victim: int
    lasts_s: float
    silent: bool


def faults(seed: int, seconds: int, victims: int) -> Iterator[Fault]:
    """Yield a fault for each second, in order; in the first seconds one of each kind.

    Args:
        seed: The same gives the same.
        seconds: For how long.
        victims: How many redirections there are.
    """
    chance = random.Random(seed)
    each_once = list(Kind)
    chance.shuffle(each_once)
    for second in range(seconds):
        (kind,) = each_once[second : second + 1] or chance.choices(
            list(_WEIGHTS), list(_WEIGHTS.values())
        )
        longest_s = _LONGEST_S.get(kind, 0.0)
        yield Fault(
            at_s=(second + chance.random()) * INTERVAL_S,
            kind=kind,
            victim=chance.randrange(victims),
            lasts_s=min(longest_s, _SHORTEST_S + chance.expovariate(4 / longest_s))
            if longest_s
            else 0.0,
            silent=chance.random() < 0.5,
        )
