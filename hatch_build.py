"""Build hook: compiles the edge into the wheel. See kubectl_vmredir/kubevirt/edge/build.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))

from kubectl_vmredir.kubevirt.edge import build


class EdgeBuildHook(BuildHookInterface[Any]):
    """Puts the programs into a wheel; an editable installation goes without if it must."""

    def dependencies(self) -> list[str]:
        """See :meth:`BuildHookInterface.dependencies`.

        ``VMREDIR_WITHOUT_EDGE`` spares an editable installation the download of the compiler.
        """
        return [] if os.environ.get("VMREDIR_WITHOUT_EDGE") else [build.COMPILER]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See :meth:`BuildHookInterface.initialize`.

        Raises:
            CompilerMissing: If a wheel is to be built and there is no compiler.
        """
        if version == "editable":
            if not build.compiler_found():
                self.app.display_warning(str(build.CompilerMissing()))
            return  # the programs are made in the source folder: make edge
        build_data["artifacts"] += [
            f"/{program.relative_to(self.root)}" for program in build.build()
        ]
