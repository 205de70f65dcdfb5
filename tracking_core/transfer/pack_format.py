"""What stands where in a pack.

```
tracking-pack.json                      what is in it; the last entry
run/run.json                            the run directory, without cursors and heartbeats
run/journal/<writer>-000001.jsonl
run/media/<sha256>.<ext>
artifacts/<type>/<name>/v<N>.json       versions that the run logged or used; names are encoded as in the store
blobs/sha256/<two digits>/<the other 62>    their contents
```

A pack is a ZIP archive: it has its table of contents at the end, so that one that was cut off is recognised before
anything is unpacked; single files can be read without unpacking the rest; each has a checksum; and everybody can open
it. PNG files and blobs are stored, everything else is deflated.
"""

from __future__ import annotations

import re
import stat
import zipfile
from pathlib import Path

from tracking_core.errors import StoreError

FORMAT = 1
MANIFEST = "tracking-pack.json"
ENDING = ".tracking.zip"
_MAGIC = b"PK\x03\x04"
_NAME = r"[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,254}"
_HOW = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENTRY = re.compile(
    rf"run/{_NAME}|run/(?:journal|media)/{_NAME}|artifacts/{_NAME}/{_NAME}/v\d{{1,9}}\.json"
    r"|blobs/sha256/[0-9a-f]{2}/[0-9a-f]{62}"
)


def is_pack(path: Path) -> bool:
    """Whether a file begins as a pack does; whether it is whole, reading it tells."""
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def is_entry(name: str) -> bool:
    """Whether a name is one of an entry of a pack, the manifest aside."""
    # Whether a run lives is not told by a pack.
    return _ENTRY.fullmatch(name) is not None and not name.endswith(".alive")


def entries(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The entries of a pack by name, each checked to be a plain file at one of the places that are known.

    Args:
        archive: The open archive.
        path: Its file, for the messages.

    Raises:
        BadZipFile: The table of contents is that of an archive inside this one, which was cut off behind it.
        StoreError: There is an entry that a pack does not have: a link, an absolute path, one with `..`, …
    """
    found: dict[str, zipfile.ZipInfo] = {}
    if archive.comment or min((info.header_offset for info in archive.infolist()), default=0):
        raise zipfile.BadZipFile("its table of contents belongs to another archive")
    for info in archive.infolist():
        # What zipfile made of the name may be another than what stands there.
        name = info.orig_filename
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in {0, stat.S_IFREG} or info.is_dir():
            raise StoreError(f"{path} is refused: {name[:100]!r} in it is a link, or not a regular file")
        if info.flag_bits & 1:
            raise StoreError(f"{path} is refused: {name[:100]!r} in it is encrypted")
        if info.compress_type not in _HOW:
            raise StoreError(f"{path} is refused: {name[:100]!r} in it is compressed in a way that packs do not use")
        if name != MANIFEST and (not is_entry(name) or name != info.filename):
            raise StoreError(f"{path} is refused: {name[:100]!r} is not a valid name in a pack")
        if name in found:
            raise StoreError(f"{path} is refused: {name[:100]!r} appears in it twice")
        found[name] = info
    return found
