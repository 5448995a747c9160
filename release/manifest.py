"""The manifest for krew: ``plugin.yaml``, and the archives that there are.

Source: krew, pkg/index/types.go.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

import yaml

from release.failure import BuildFailed
from release.freeze import NAME, ROOT

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE: Final = ROOT / "plugin.yaml"

_ARCHIVE: Final = re.compile(
    rf"{NAME}_(?P<version>v.+)_(?P<os>[a-z]+)_(?P<arch>[a-z0-9]+)\.tar\.gz"
)


def archive_name(version: str, arch: str) -> str:
    """Return the name of the archive for one architecture of Linux, as Go calls it."""
    return f"{NAME}_v{version}_linux_{arch}.tar.gz"


def write(folder: Path, version: str) -> Path:
    """Write the manifest for the archives in a folder beside them; return its path.

    Raises:
        BuildFailed: If ``plugin.yaml`` is of another version.
    """
    text = TEMPLATE.read_text(encoding="utf-8")
    spec = yaml.safe_load(text)["spec"]
    if spec["version"] != f"v{version}":
        raise BuildFailed(f"{TEMPLATE.name} says {spec['version']}, the program v{version}")
    platforms = []
    for archive in sorted(folder.iterdir()):
        found = _ARCHIVE.fullmatch(archive.name)
        if found is None or found["version"] != spec["version"]:
            continue
        platforms.append(
            {
                "selector": {"matchLabels": {"os": found["os"], "arch": found["arch"]}},
                "uri": f"{spec['homepage']}/releases/download/{spec['version']}/{archive.name}",
                "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
                "files": [{"from": f"{NAME}/*", "to": "."}],
                "bin": NAME,
            }
        )
    listed = yaml.safe_dump({"platforms": platforms}, sort_keys=False)
    manifest = folder / TEMPLATE.name
    manifest.write_text(
        text + "".join(f"  {line}\n" for line in listed.splitlines()), encoding="utf-8"
    )
    return manifest
