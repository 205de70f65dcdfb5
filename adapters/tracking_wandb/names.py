"""Names as W&B can hold them: keys of rows, projects, tags, artifacts, and free text.

Most names stay as they are. What W&B refuses, drops or gives a meaning of its own is written as `~` and two hex digits
for each byte, so that no two names meet and the original comes back (`tracking_core.naming` does the same):

| name | key |
|---|---|
| `train/loss` | `train/loss` |
| `_step`, `_anything` (a leading underscore hides a key, or is W&B's) | `~5fstep`, `~5fanything` |
| the empty name | `~` |
| `a~b`, control characters, lone surrogates | `a~7eb`, … |
| more than 1000 characters | the start, `~z` and a digest; the original is in the configuration, under `_tracking` |
| a table whose artifact, `run-<id>-<key>`, would have more than 128 characters | the same |
| a name that is the axis of its own row | `step~value` |
| images beyond 108, or of another size than the first | `samples~part2`, … |

Names of media become parts of file paths too: there `.` and `..` between slashes and a leading slash are escaped, and
a part is cut at 100 bytes.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Mapping

from tracking_core.naming import ARTIFACT_NAMES, Encoding

MAX_KEY = 1000
"""Characters of a key; W&B names no limit, but shows and indexes every key."""
MAX_LABEL = 128
"""Characters of a run's name, group and job type; the server refuses more."""
MAX_ARTIFACT = 128
"""Characters of the name of an artifact."""
MAX_TAG = 64
MAX_TITLE = 63
"""Characters of the title of an alert: fewer than 64."""
_CHECKSUM, _TAIL = len("-") + 6, len("~z") + 16
_NOT_IN_ARTIFACTS = re.compile(r"[^a-zA-Z0-9_\-.]")
_MAX_PART, _CUT_PART, _MAX_PATH = 150, 100, 600
_PLAIN = re.compile("[^\x00-\x1f\x7f~\ud800-\udfff]+")
_SPECIAL = re.compile("[\x00-\x1f\x7f~\ud800-\udfff]")
_HALF_ESCAPE = re.compile(r"~[0-9a-f]?\Z")

#: Everything but what the client refuses (`/\\#?%:`), with the escape of `tracking_core.naming.ARTIFACT_NAMES`.
_PROJECTS = Encoding(
    "".join(map(chr, range(0x20, 0x7F))).translate({ord(char): None for char in "/\\#?%:"}),
    escape="__x",
    first=string.ascii_letters + string.digits + "_-.",
    last=string.ascii_letters + string.digits + "_-.",
    max_length=128,
)
_ALIASES = Encoding(
    "".join(map(chr, range(0x21, 0x7F))).translate({ord(char): None for char in "/:"}), escape="__x", max_length=128
)
_VERSION = re.compile(r"v\d+\Z")
#: Types and, for some, prefixes of names that the client keeps for itself.
_OWN_TYPES = re.compile(r"job\Z|wandb-")
_OWN_NAMES = {"code": "source-", "run_table": "run-"}


def metric_key(name: str) -> str:
    """The key of a name in a row."""
    if name and name[0] != "_" and len(name) <= MAX_KEY and _PLAIN.fullmatch(name):
        return name
    key = _SPECIAL.sub(_escape, name) if name else "~"
    if key.startswith("_"):
        key = "~5f" + key[1:]
    return key if len(key) <= MAX_KEY else _cut(key, name, MAX_KEY - 18)


def media_key(name: str) -> str:
    """The key of a name whose values are files: every part between slashes can be part of a file name."""
    key = metric_key(name)
    parts = [part.replace(".", "~2e") if part in {".", ".."} else part for part in key.split("/")]
    key = "/".join(parts)
    if key.startswith("/"):
        key = "~2f" + key[1:]
    sizes = [len(part.encode()) for part in key.split("/")]
    if max(sizes) > _MAX_PART or sum(sizes) + len(sizes) > _MAX_PATH:
        return _cut(key, name, _CUT_PART)
    return key


def fits_artifact(run_id: str, key: str, suffix: str = "") -> bool:
    """Whether the client can name the artifact that it makes of a table after run and key."""
    name = f"run-{run_id}-{key}{suffix}"
    kept = _NOT_IN_ARTIFACTS.sub("", name)
    # What it leaves out it makes up for by a checksum.
    return len(kept) + (_CHECKSUM if kept != name else 0) <= MAX_ARTIFACT


def artifact_key(run_id: str, name: str) -> str:
    """The key of a table whose name is too long for the name of an artifact."""
    # What is behind its start: "~z" and a digest, and "~part" with a number.
    room = MAX_ARTIFACT - _CHECKSUM - len(f"run-{run_id}-") - _TAIL - len("part12345")
    return _cut(media_key(name), name, max(room, 0))


def is_cut(key: str) -> bool:
    """Whether a key does not hold its whole name."""
    return "~z" in key


def project_name(name: str) -> str:
    """A project name that W&B takes."""
    return _PROJECTS.encode(name)


def tag(text: str) -> str:
    """A tag of at most 64 characters."""
    return shortened(text, MAX_TAG)


def artifact_name(name: str) -> str:
    """The name of an artifact in W&B's alphabet."""
    return ARTIFACT_NAMES.encode(name)


def artifact_type(kind: str, name: str) -> str:
    """The type of an artifact of this (encoded) name in W&B's alphabet, and none that the client keeps for itself."""
    encoded = ARTIFACT_NAMES.encode(kind)
    if _OWN_TYPES.match(encoded) or (encoded in _OWN_NAMES and name.startswith(_OWN_NAMES[encoded])):
        return f"__x{ord(encoded[0]):02x}{encoded[1:]}"
    return encoded


def artifact_alias(alias: str) -> str:
    """An alias that W&B takes: no slash, no colon, and none that looks like a version."""
    encoded = _ALIASES.encode(alias)
    return f"__x76{encoded[1:]}" if _VERSION.match(encoded) else encoded


def shortened(text: str, limit: int) -> str:
    """Text of at most `limit` characters: longer text is cut and ends in a digest of the whole."""
    text = clean(text)
    return text if len(text) <= limit else f"{text[: limit - 17]}~{_digest(text)}"


def clean(text: str) -> str:
    """Text that can be sent: lone surrogates are written as escapes, which cannot be undone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _escape(match: re.Match[str]) -> str:
    return "".join(f"~{byte:02x}" for byte in match.group().encode("utf-8", "surrogatepass"))


def _cut(key: str, name: str, limit: int) -> str:
    # A key that was cut before is cut anew, and has one digest.
    key = key.partition("~z")[0]
    start = key.encode()[:limit].decode("utf-8", "ignore")
    return f"{_HALF_ESCAPE.sub('', start)}~z{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


_ESCAPED = re.compile(r"((?:~[0-9a-f]{2})+)")
_SUFFIX = re.compile(r"~(?:value|part(\d+))\Z")


def decode(key: str, names: Mapping[str, str]) -> str:
    """The name behind a key.

    Args:
        key: A key of a row.
        names: The names of keys that do not hold their whole name.
    """
    key = _SUFFIX.sub("", key)
    if key in names:
        return names[key]
    if key == "~":
        return ""
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].replace("~", "")).decode("utf-8", "surrogatepass"), key)


def part(key: str) -> tuple[int, str]:
    """For sorting: which part of several keys of one name this is, from 1."""
    found = _SUFFIX.search(key)
    return (int(found[1]) if found and found[1] else 1, key)
