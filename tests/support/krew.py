"""What ``make dist`` builds, installed by the real krew, with our Python out of sight."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from kubectl_vmredir import __version__
from tests.support.commands import Cli
from tests.support.peers import peer

DIST: Final = Path(__file__).parents[2] / "dist"
_LIMIT_S: Final = 60.0


def manifest() -> dict[str, object]:
    """Return the manifest that was built."""
    content: dict[str, object] = yaml.safe_load((DIST / "plugin.yaml").read_text(encoding="utf-8"))
    return content


def archive() -> Path:
    """Return the one archive that was built."""
    (found,) = DIST.glob(f"kubectl-vmredir_v{__version__}_linux_*.tar.gz")
    return found


@dataclass(frozen=True)
class Krew:
    """krew with a root folder of its own, which knows no index and no network.

    Attributes:
        root: Its folder.
        tools: Folder with kubectl and krew, and nothing else.
    """

    root: Path
    tools: Path

    @classmethod
    def in_folder(cls, folder: Path) -> Krew:
        """Make one in a new folder."""
        root, tools = folder / "krew", folder / "tools"
        tools.mkdir(parents=True)
        (tools / "kubectl-krew").symlink_to(peer("krew"))
        (tools / "kubectl").symlink_to(shutil.which("kubectl") or "kubectl")
        index = root / "index" / "default"
        subprocess.run(["git", "init", "--quiet", index], check=True)
        return cls(root, tools)

    @property
    def variables(self) -> Mapping[str, str]:
        """Variables of a shell in which its plugins are found, and no Python of ours."""
        folders = (str(self.root / "bin"), str(self.tools), "/usr/bin", "/bin")
        return {
            "KREW_ROOT": str(self.root),
            "PATH": os.pathsep.join(folders),
            "PYTHONPATH": "/nowhere",
        }

    @property
    def installed(self) -> Path:
        """Where the files of our plugin are."""
        return self.root / "store" / "vmredir" / f"v{__version__}"

    def __call__(self, *arguments: str) -> str:
        """Run it to its end; return all that it says."""
        done = subprocess.run(
            ["kubectl", "krew", *arguments],
            env={**self.variables, "HOME": str(self.root)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def install(self) -> str:
        """Install what was built; return what krew says."""
        return self("install", f"--manifest={DIST / 'plugin.yaml'}", f"--archive={archive()}")

    def plugin(self, home: Path, environment: Mapping[str, str]) -> Cli:
        """Return our plugin as a user of kubectl has it."""
        return Cli(home, {**self.variables, **environment}, program=("kubectl", "vmredir"))
