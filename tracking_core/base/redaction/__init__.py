"""Removing secrets from names, text, command lines, addresses and nested data before anything is written.

A secret is known by one of three marks, never by how random it looks, so that git commits and digests survive:

- its form (`sk-…`, `ghp_…`, `hf_…`, `AKIA…`, a JSON web token, a private key block, …),
- the name it is stored under (`password`, `api_key`, `auth`, …, compared by the words of the name),
- its being the exact value of an environment variable with such a name, or what addresses, JSON and base64 make of it.

Names, by which series and artifacts are found, are searched for the last alone; documents of the user (text, captions,
cells) for the first and the last.
"""

from __future__ import annotations

from tracking_core.base.redaction.exact import REDACTED, redact_name
from tracking_core.base.redaction.secret_names import is_secret_name
from tracking_core.base.redaction.structures import redact_argv, redact_tree, redact_url
from tracking_core.base.redaction.text import redact_document, redact_text

__all__ = [
    "REDACTED",
    "is_secret_name",
    "redact_argv",
    "redact_document",
    "redact_name",
    "redact_text",
    "redact_tree",
    "redact_url",
]
