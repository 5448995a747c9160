"""What this machine keeps on the block devices of a USB device.

Sources: proc(5) for mountinfo and swaps; Documentation/ABI of the kernel for ``holders``,
``slaves``, ``dm`` and ``md`` below /sys/class/block, and for /sys/fs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from kubectl_vmredir.usb.tree import Tree

_BLOCKS: Final = "sys/class/block"
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_STACKS: Final = {"CRYPT-": "LUKS", "LVM-": "LVM"}
"""What a device mapper device is, by the start of its uuid (dm-uuid-* of udev)."""
_LISTS_OF_MOUNTED: Final = ("sys/fs/ext4", "sys/fs/xfs", "sys/fs/f2fs")
"""Each has a folder by the name of the block device of each mounted file system."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system that is mounted, as /proc/self/mountinfo tells it.

    Attributes:
        number: ``major:minor`` of its device; of no block device for btrfs and others.
        point: Where it is mounted; untrusted.
        kind: Type of the file system.
        source: Device node, or anything; untrusted.
        options: Of the file system, not of this mount of it; untrusted.
    """

    number: str
    point: str
    kind: str
    source: str
    options: tuple[str, ...] = ()

    @property
    def read_only(self) -> bool:
        """Whether nothing writes to it: this mount, or another one of the same file system."""
        return "ro" in self.options

    @property
    def layers(self) -> list[str]:
        """The folders that an overlay lies on."""
        settings = [option.partition("=") for option in self.options]
        return [
            layer
            for name, _, value in settings
            if self.kind == "overlay" and name in ("lowerdir", "upperdir")
            for layer in value.split(":")
        ]


@dataclass(frozen=True, slots=True)
class Swap:
    """An active swap area: a block device, or a file."""

    path: str
    """Untrusted."""


@dataclass(frozen=True, slots=True)
class Stacked:
    """A block device that is made of another one.

    Attributes:
        block: Kernel name of the lower one, for instance ``sdb1``.
        holder: Kernel name of the upper one, for instance ``dm-0``.
        kind: ``LUKS``, ``LVM``, ``RAID`` or ``another block device``.
        mapper: Name below /dev/mapper; untrusted, empty if it has none.
    """

    block: str
    holder: str
    kind: str
    mapper: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is in use on the block devices of a USB device, in order of their names.

    Attributes:
        root: Whether the root file system is on it.
        maybe_root: Whether it may be: something of it is mounted, and the root file system is an
            overlay with a layer that was mounted before it, where nobody can see it now.
        mounts: What is mounted of it, by kernel name of the block device.
        swaps: Active swap areas on it.
        stacked: Block devices made of it.
        hidden: Block devices with a file system that is mounted where we cannot see it.
    """

    root: bool = False
    maybe_root: bool = False
    mounts: tuple[tuple[str, Mount], ...] = ()
    swaps: tuple[Swap, ...] = ()
    stacked: tuple[Stacked, ...] = ()
    hidden: tuple[str, ...] = ()


def parse_mounts(text: str) -> list[Mount]:
    """Read /proc/PID/mountinfo.

    Raises:
        ValueError: If it is something else.
    """
    return [_parse_mount(line) for line in text.removesuffix("\n").split("\n")]


def _parse_mount(line: str) -> Mount:
    # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    before, dash, after = line.partition(" - ")
    fields, super_fields = before.split(" "), after.split(" ")
    if not dash or len(fields) < 6 or len(super_fields) < 3:
        raise ValueError(f"no line of mountinfo: {line!r}")
    return Mount(
        number=fields[2],
        point=_unescaped(fields[4]),
        kind=super_fields[0],
        source=_unescaped(super_fields[1]),
        options=tuple(_unescaped(option) for option in super_fields[2].split(",")),
    )


def parse_swaps(text: str) -> list[Swap]:
    """Read /proc/swaps."""
    rows = [line.split() for line in text.split("\n")[1:]]
    return [Swap(_unescaped(row[0])) for row in rows if row]


def _unescaped(text: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text)


def kept_on(tree: Tree, device: Path, mounts: Sequence[Mount], swaps: Iterable[Swap]) -> Kept:
    """Return what this machine keeps on the block devices below a device.

    What is stacked on them counts as well, however high: partitions, LVM, LUKS, RAID, a btrfs of
    several devices, a loop device whose file is on one of them, an overlay. That is how the root
    file system of a live system lies on its stick.

    Args:
        tree: Where sysfs is.
        device: Folder of the USB device in sysfs, without symbolic links.
        mounts: All that is mounted, as far as it can be seen.
        swaps: All active swap areas.

    Raises:
        OSError: If the block devices of this machine cannot be listed.
    """
    pile = _Pile(tree, device, mounts)
    return Kept(
        root=any(mount.point == "/" for _, mount in pile.carried),
        maybe_root=pile.maybe_root,
        mounts=tuple(found for found in pile.carried if found[1].kind != "overlay"),
        swaps=tuple(swap for swap in swaps if pile.carries(swap.path)),
        stacked=tuple(pile.stacked),
        hidden=tuple(pile.hidden),
    )


class _Pile:
    """Block devices of a USB device, and all that is stacked on them.

    Attributes:
        carried: What is mounted of it, with the block device.
    """

    def __init__(self, tree: Tree, device: Path, mounts: Sequence[Mount]) -> None:
        self._tree = tree
        self._mounts = mounts
        self._all = {name: tree.real(f"{_BLOCKS}/{name}") for name in tree.listing(_BLOCKS)}
        self._btrfs = [
            tree.names(f"sys/fs/btrfs/{uuid}/devices") for uuid in tree.names("sys/fs/btrfs")
        ]
        self._blocks: set[str] = set()
        self.carried: list[tuple[str, Mount]] = []
        new = {name for name, path in self._all.items() if device in path.parents}
        while new:
            self._blocks |= new
            self.carried = self._find_carried()
            new = self._next() - self._blocks

    @property
    def maybe_root(self) -> bool:
        roots = [mount for mount in self._mounts if mount.point == "/"]
        return bool(self.carried) and any(None in self._layers(root) for root in roots)

    @property
    def stacked(self) -> list[Stacked]:
        return [
            Stacked(name, holder, *self._kind(holder))
            for name in sorted(self._blocks)
            for holder in self._tree.names(f"{_BLOCKS}/{name}/holders")
        ]

    @property
    def hidden(self) -> list[str]:
        listed = {name for path in _LISTS_OF_MOUNTED for name in self._tree.names(path)}
        listed.update(*self._btrfs)
        seen = {name for name, _ in self.carried}
        for siblings in self._btrfs:
            if not seen.isdisjoint(siblings):
                seen.update(siblings)
        if any(mount.kind == "zfs" for mount in self._mounts):  # it names pools, not devices
            listed.update(name for name in self._blocks if self._is_of_zfs(name))
        return sorted((listed & self._blocks) - seen)

    def carries(self, path: str) -> bool:
        """Return whether a device node is one of these, or a file is on one of these."""
        if path.startswith("/dev/"):
            return self._named(path) in self._blocks
        return _mount_of(path, self._mounts) in [mount for _, mount in self.carried]

    def _find_carried(self) -> list[tuple[str, Mount]]:
        numbers = {
            self._tree.attribute(f"{_BLOCKS}/{name}/dev"): name for name in sorted(self._blocks)
        }
        carried = []
        for mount in self._mounts:
            # bcachefs joins the nodes of several devices with colons.
            named = [self._named(node) for node in mount.source.split(":")]
            for name in (numbers.get(mount.number), *named):
                if name in self._blocks:
                    carried.append((name, mount))
                    break
        return carried + self._overlays_on({mount.point: name for name, mount in carried})

    def _overlays_on(self, points: dict[str, str]) -> list[tuple[str, Mount]]:
        """Return overlays with a layer on one of these mounts, with the block device of that."""
        found = []
        for overlay in self._mounts:
            under = [mount.point for mount in self._layers(overlay) if mount is not None]
            if names := [points[point] for point in under if point in points]:
                found.append((names[0], overlay))
        return found

    def _layers(self, overlay: Mount) -> list[Mount | None]:
        """Return what each layer is on; None where that cannot be seen."""
        others = [mount for mount in self._mounts if mount is not overlay]
        return [_mount_of(layer, others) for layer in overlay.layers]

    def _next(self) -> set[str]:
        """Return what stands directly on what we have."""
        found: set[str] = set()
        for name in self._blocks:
            found.update(self._tree.names(f"{_BLOCKS}/{name}/holders"))
            found.update(
                other for other, path in self._all.items() if self._all.get(name) in path.parents
            )
        for siblings in self._btrfs:
            if not self._blocks.isdisjoint(siblings):
                found.update(siblings)
        for name in self._all:
            file = self._tree.attribute(f"{_BLOCKS}/{name}/loop/backing_file")
            if file and self.carries(file):
                found.add(name)
        return found

    def _named(self, node: str) -> str | None:
        """Return the kernel name of the block device whose node this is."""
        if not node.startswith("/dev/"):
            return None
        name = self._tree.real(node.removeprefix("/")).name
        if name in self._all:
            return name
        mapper = node.removeprefix("/dev/mapper/")
        for other in self._all:
            if self._tree.attribute(f"{_BLOCKS}/{other}/dm/name") == mapper:
                return other
        return None

    def _is_of_zfs(self, name: str) -> bool:
        number = self._tree.attribute(f"{_BLOCKS}/{name}/dev")
        known = self._tree.attribute(f"run/udev/data/b{number}").splitlines()
        return "E:ID_FS_TYPE=zfs_member" in known

    def _kind(self, holder: str) -> tuple[str, str]:
        """Return what a block device made of others is, and its name below /dev/mapper."""
        folder = f"{_BLOCKS}/{holder}"
        if self._tree.exists(f"{folder}/md"):
            return "RAID", ""
        uuid = self._tree.attribute(f"{folder}/dm/uuid")
        for start, kind in _STACKS.items():
            if uuid.startswith(start):
                return kind, self._tree.attribute(f"{folder}/dm/name")
        return "another block device", self._tree.attribute(f"{folder}/dm/name")


def _mount_of(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """Return what is mounted where a file is; the last one, where several are."""
    file = PurePosixPath(path)
    parents = {str(file), *map(str, file.parents)}
    found: Mount | None = None
    for mount in mounts:
        if mount.point in parents and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found
