"""A redirection in the form that outlives the process which keeps it up."""

from __future__ import annotations

from dataclasses import dataclass

# Their names are read off the annotations at run time, by whoever writes such a wish down.
from kubectl_vmredir.model import Identity  # noqa: TC001
from kubectl_vmredir.service.safety import Consent  # noqa: TC001
from kubectl_vmredir.service.wish import Wish  # noqa: TC001


@dataclass(frozen=True, slots=True)
class KeptWish:
    """All that it takes to go on with a redirection; no secret is in it.

    Attributes:
        wish: What is wanted.
        bound_by: Who wants it: with other credentials it is not gone on with.
        consent: Which dangers they accept.
        paused: Whether this machine has the device for the time being.
        confirmed: Whether the only keyboard or pointer may stay in the VM; see
            ``RedirectionService.confirm``.
    """

    wish: Wish
    bound_by: Identity
    consent: Consent
    paused: bool = False
    confirmed: bool = False
