"""Exact values of secret variables, in the forms in which programs write them down."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import Any

from tracking_core.base.redaction.secret_names import is_secret_name

REDACTED = "[redacted]"
"""The text that replaces a secret."""
SHORTEST = 6
"""A shorter value is not treated as a secret: it would be hidden everywhere."""

# Switches, and what test databases are opened with: words that would go missing from names and text everywhere.
_NO_SECRETS = frozenset({"enabled", "disabled", "required", "optional", "default", "password", "postgres", "changeme"})
_BASE64 = re.compile(r"[A-Za-z0-9+/=_-]{16,}")
_SHORTEST_BASE64 = 12

_seen: tuple[dict[Any, Any] | None, tuple[str, ...]] = (None, ())


def environment_secrets() -> tuple[str, ...]:
    """What is to be replaced: the values of all environment variables with a secret name, as they are now.

    Returns:
        Each value in all its forms, longer ones first: a secret that begins with another one must go as a whole.
    """
    global _seen  # noqa: PLW0603 - what was made of the environment when it was last another
    # Comparing the whole of it takes 2 µs, and decoding it 70 µs.
    raw: dict[Any, Any] | None = getattr(os.environ, "_data", None)
    before, found = _seen
    if raw is None or raw != before:
        before, found = None if raw is None else dict(raw), _read()
        _seen = before, found
    return found


def redact_exact(text: str, secrets: tuple[str, ...] | None) -> str:
    """Replace exact values.

    Args:
        text: Any text.
        secrets: The result of `environment_secrets()`.
    """
    for secret in secrets or ():
        if secret in text:
            text = text.replace(secret, REDACTED)
    return text


def redact_name(name: str) -> str:
    """A name with the exact values of secret variables in it replaced.

    No more than those: a name is what a series is found by, and `xai_integrated_gradients_mean` must not be taken for
    a key because of its beginning.

    Args:
        name: Name of a run, a metric, an axis, an artifact, …

    Example:
        >>> redact_name("xai_integrated_gradients_mean")
        'xai_integrated_gradients_mean'
    """
    return redact_exact(name, environment_secrets()) if len(name) >= SHORTEST else name


def _read() -> tuple[str, ...]:
    found: set[str] = set()
    for name, value in os.environ.items():
        secret = value.strip()
        if len(secret) < SHORTEST or secret.lower() in _NO_SECRETS or secret in REDACTED or not is_secret_name(name):
            continue
        found |= _forms(secret)
    return tuple(sorted(found, key=lambda form: (-len(form), form)))


@lru_cache(maxsize=512)
def _forms(secret: str) -> frozenset[str]:
    """A value as it is, and as JSON, Python, addresses and base64 have it."""
    forms = {secret}
    # A key with line breaks is often set with them escaped.
    plain = {secret, secret.replace("\\n", "\n")}
    for value in plain:
        if not value.isalnum():
            import json
            from urllib.parse import quote, quote_plus

            forms |= {value, repr(value)[1:-1], json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
            quoted = {quote(value, safe=safe, errors="surrogateescape") for safe in ("", "/")}
            quoted.add(quote_plus(value, errors="surrogateescape"))
            forms |= quoted | {re.sub("%..", lambda escape: escape[0].lower(), form) for form in quoted}
        lines = value.split("\n")
        if len(lines) > 1:
            # A diff puts something before each line.
            forms |= {line.strip() for line in lines if _BASE64.fullmatch(line.strip())}
    forms |= _in_base64(secret)
    return frozenset(form for form in forms if len(form) >= SHORTEST)


def _in_base64(secret: str) -> set[str]:
    """What base64 makes of a value that begins at any byte of a group of three, as `user:password` may have it."""
    import base64

    raw = secret.encode("utf-8", "surrogateescape")
    forms: set[str] = set()
    for ahead in range(3):
        encoded = base64.b64encode(b"\0" * ahead + raw).decode()
        # Without the characters that hold bits of a neighbour.
        core = encoded[4 if ahead else 0 : len(encoded) - 4 if (ahead + len(raw)) % 3 else None]
        if len(core) >= _SHORTEST_BASE64:
            forms |= {core, core.replace("+", "-").replace("/", "_")}
    return forms
