"""The file system that a directory is on, and where its files are."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

# fmt: off
_NETWORK = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs",
    "nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "quobyte", "smb", "smb2", "smb3", "smbfs", "wekafs",
})
# fmt: on
#: File systems in user space serve a remote store, these few excepted.
_LOCAL_FUSE = frozenset(
    {"fuse.fuse-overlayfs", "fuse.ntfs-3g", "fuse.exfat", "fuse.lxcfs", "fuse.ext4", "fuse.gocryptfs"}
)
_MEMORY = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system.

    Args:
        point: Where it is mounted.
        filesystem: Its type, as the kernel names it.
        device: What is mounted.
    """

    point: str
    filesystem: str
    device: str

    @property
    def kind(self) -> str:
        """Where its files are: "network", "memory" or "local"."""
        remote = self.filesystem.startswith("fuse.") and self.filesystem not in _LOCAL_FUSE
        if remote or self.filesystem in _NETWORK:
            return "network"
        return "memory" if self.filesystem in _MEMORY else "local"


def find_mount(path: str, mounts: str) -> Mount | None:
    """The file system that holds a path.

    Args:
        path: An absolute path without symbolic links.
        mounts: The text of `/proc/self/mounts`, see `man 5 fstab`.
    """
    best: Mount | None = None
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        device, point, filesystem = (_unescaped(field) for field in fields[:3])
        inside = path == point or path.startswith(point if point.endswith("/") else f"{point}/")
        # Of two on one place the later one lies on top.
        if inside and (best is None or len(point) >= len(best.point)):
            best = Mount(point, filesystem, device)
    return best


def mount_of(place: Path) -> Mount | None:
    """The file system that a path is on, or would be; None where the system does not tell."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    return find_mount(os.path.realpath(place), mounts)


def on_network(place: Path) -> bool:
    """Whether a path is on a network file system, as far as the system tells."""
    mount = mount_of(place)
    return mount is not None and mount.kind == "network"


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
