"""The group subresources.kubevirt.io: virt-api's part."""

from __future__ import annotations

from typing import Final

GROUP: Final = "subresources.kubevirt.io"
VERSIONS: Final = ("v1", "v1alpha3")

LISTED: Final = (
    "virtualmachineinstances/vnc",
    "virtualmachineinstances/console",
    "virtualmachineinstances/portforward",
    "virtualmachines/migrate",
)
"""What discovery tells: usbredir is not among it, here as there."""
