"""The mirror: whether its address and what it needs are right, and whether it can be written."""

from __future__ import annotations

import secrets
import time

from tracking_core.backends.hooks import Finding
from tracking_core.base.redaction import redact_text
from tracking_core.environment.settings import Settings
from tracking_core.errors import SettingsError


def check_mirror(settings: Settings) -> list[Finding]:
    """Look at the mirror that is set, by an object that is gone when this returns.

    Args:
        settings: What environment and file say.
    """
    from tracking_core.remote.address import mirroring
    from tracking_core.remote.objects import open_objects

    try:
        wanted = mirroring(settings)
    except SettingsError as error:
        return [Finding("error", str(error), "until that is right, no run starts from here")]
    if wanted is None:
        return []
    origin = settings.origin("mirror")
    key = f".tracking-doctor-{secrets.token_hex(6)}"
    begin = time.monotonic()
    try:
        objects = open_objects(wanted.address)
        objects.put(key, b"doctor")
        came_back = objects.get(key)
        objects.remove(key)
    except Exception as error:  # noqa: BLE001 - every client has errors of its own
        text = redact_text(f"{type(error).__name__}: {error}")[:500]
        return [
            Finding(
                "error",
                f"{wanted.address} cannot be written: {text} (mirror: {origin})",
                "check bucket, credentials and endpoint; runs continue without the mirror, and report it",
            )
        ]
    if came_back != b"doctor":
        return [Finding("error", f"{wanted.address} does not return the object that was written (mirror: {origin})")]
    took = time.monotonic() - begin
    message = f"{wanted.address} can be written, and read: {took:.2f} s for an object (mirror: {origin})"
    return [Finding("ok", message)]


def refused_root(configured: str | None, origin: str) -> list[Finding] | None:
    """What there is to say of a root that is a mirror; None for a directory.

    Args:
        configured: The root.
        origin: Where it came from.
    """
    from tracking_core.remote.address import is_address

    if not is_address(configured):
        return None
    message = f"{origin}: {redact_text(str(configured))} is a mirror, which is only read: no run starts with it"
    return [Finding("error", message, "set TRACKING_DIR to a directory, and TRACKING_MIRROR to this address")]
