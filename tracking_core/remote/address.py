"""How a mirror is named, and the settings of mirroring, checked before a run starts."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from tracking_core.base.redaction import redact_text
from tracking_core.base.redaction.text import redact_values
from tracking_core.environment.settings import Settings
from tracking_core.errors import MissingDependencyError, SettingsError

PACKAGES = {"s3": ("fsspec", "s3fs"), "gs": ("fsspec", "gcsfs"), "file": ()}
"""Scheme → what it needs."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_EXAMPLES = "such as s3://bucket/runs, gs://bucket/runs or file:///mnt/runs"
INTERVAL = 25.0
"""Seconds between two looks at what is new: with the time that an upload takes, at most 30 s are missing."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a mirror is.

    Args:
        scheme: "s3", "gs" or "file".
        place: Bucket and prefix, or an absolute path; without a slash at the end.
    """

    scheme: str
    place: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}"


@dataclass(frozen=True, slots=True)
class Mirroring:
    """What a run is told about its mirror.

    Args:
        address: Where it is.
        interval: Seconds between two looks at what is new.
    """

    address: Address
    interval: float = INTERVAL


def is_address(text: object) -> bool:
    """Whether a root that somebody named is a mirror rather than a directory."""
    return isinstance(text, str) and _SCHEME.match(text) is not None


def parse_address(text: str, *, origin: str) -> Address:
    """Parse the address of a mirror.

    Args:
        text: What was written.
        origin: Where, for the message.

    Raises:
        SettingsError: It is none, or it holds a secret.
    """
    match = _SCHEME.match(text)
    if match is None:
        raise SettingsError(f"{origin}: {_shown(text)} is not the address of a mirror, {_EXAMPLES}")
    scheme, place = match[1].lower(), text[match.end() :].rstrip("/")
    if scheme not in PACKAGES:
        raise SettingsError(f"{origin}: mirrors on {scheme}:// are not supported; use s3://, gs:// or file://")
    if "@" in place.partition("/")[0] or redact_values(text, None) != text:
        raise SettingsError(f"{origin}: the address of the mirror holds a user, password or key; {_REMEDY}")
    if scheme == "file":
        if not place.startswith("/"):
            raise SettingsError(f"{origin}: file:// needs an absolute path, as in file:///mnt/runs, got {_shown(text)}")
        return Address(scheme, place)
    if "?" in place or "#" in place:
        raise SettingsError(f"{origin}: the address of a mirror has no options; {_REMEDY}")
    if not place or any(part in {"", ".", ".."} for part in place.split("/")):
        raise SettingsError(f"{origin}: expected {scheme}://BUCKET or {scheme}://BUCKET/PREFIX, got {_shown(text)}")
    return Address(scheme, place)


_REMEDY = "credentials and endpoints come from the environment or the login of the cloud's own tools"


def check_packages(address: Address, *, origin: str) -> None:
    """See that what an address needs is installed; nothing is imported.

    Raises:
        MissingDependencyError: It is not.
    """
    missing = [name for name in PACKAGES[address.scheme] if not _is_installed(name)]
    if missing:
        raise MissingDependencyError(
            f"{origin}: {address.scheme}:// needs {', '.join(missing)}: pip install 'tracking-core[remote]'"
        )


def mirroring(settings: Settings) -> Mirroring | None:
    """Where and how runs are mirrored, as it is set; None when they are not.

    Raises:
        SettingsError: The address or the interval is wrong.
        MissingDependencyError: A package is missing.
    """
    text = settings.get("mirror")
    if text is None:
        return None
    origin = settings.origin("mirror")
    address = parse_address(text, origin=origin)
    check_packages(address, origin=origin)
    return Mirroring(address, _interval(settings))


def check_mirroring(settings: Settings, root: Any) -> None:
    """Check, before a run starts, where it is recorded and where it is mirrored.

    Args:
        settings: Environment and file.
        root: The root that the program names; None takes what is set.

    Raises:
        SettingsError: The root is a mirror; or what is set about mirroring is wrong.
        MissingDependencyError: A package is missing.
    """
    refuse_address(
        settings.get("dir", root),
        what="start_run" if root is not None else settings.origin("dir"),
        remedy="a run is recorded on a disk: set TRACKING_DIR to a directory, and TRACKING_MIRROR to this address",
    )
    mirroring(settings)


def refuse_address(root: str | os.PathLike[str] | None, *, what: str, remedy: str) -> None:
    """See that a root is a directory: a mirror is only read.

    Args:
        root: The root.
        what: What was to be done with it, for the message.
        remedy: What to do in its place.

    Raises:
        SettingsError: It is the address of a mirror.
    """
    if is_address(root):
        raise SettingsError(f"{what}: {_shown(str(root))} is a mirror, and mirrors are read-only; {remedy}")


def _interval(settings: Settings) -> float:
    text = settings.get("mirror_interval")
    if text is None:
        return INTERVAL
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.1 <= seconds <= 86400.0:
        raise SettingsError(
            f"{settings.origin('mirror_interval')}: expected seconds from 0.1 to 86400, got {text!r:.60}"
        )
    return seconds


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _shown(text: str) -> str:
    return repr(redact_text(text)[:80])
