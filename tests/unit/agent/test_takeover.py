from __future__ import annotations

import random

from kubectl_vmredir import __version__
from kubectl_vmredir.agent.takeover import order_of

VERSIONS = [
    "0.0.9",
    "0.1.0.dev1",
    "0.1.0rc1",
    "0.1.0",
    "0.1.1",
    "0.2",
    "0.10.0",
    "1.0.0",
    "12.0",
    "",
    "tomorrow",
]
"""Oldest first; what is no version at all is taken for a newer one, which nobody ends."""


def test_versions_are_in_order() -> None:
    shuffled = list(VERSIONS)
    random.Random(1).shuffle(shuffled)

    assert sorted(shuffled, key=order_of) == VERSIONS


def test_our_own_version_is_one() -> None:
    assert order_of("0") < order_of(__version__) < order_of("99")
