r"""The grammar of `TRACKING_BACKEND`: which backends a run goes to, each with where and how.

```
targets = target, ["," target]…
target  = name [":" path | "://" authority ["/" path]] ["?" key=value ["&" key=value]…]
```

A literal comma, question mark or ampersand is percent-encoded (`%2C`, `%3F`, `%26`), and so is a blank, `;`, `+` or `|`
before the name of a backend (`%20`, `%3B`, `%2B`, `%7C`), a blank at the beginning or the end, and a quotation mark at
the beginning (`%22`, `%27`). A target has no control characters. `C:\runs` is a path, and `:///runs` the absolute path
`/runs`.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

from tracking_core.errors import SettingsError
from tracking_core.values.kinds import KINDS

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_SECRET_VALUE = re.compile(r"^(?:[0-9a-f]{40}|sk-\w{16,}|hf_\w{16,}|gh[pousr]_\w{16,}|AKIA\w{12,}|wandb_v1_\w+)$")

#: What lists are joined by elsewhere.
_JOINTS = re.compile(r"\s+|\s*[;+|&]")
_SIGNS = re.compile(r"([\s;+|&]+)([^\s;+|&]*)")
QUOTES = tuple("\"'`\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb\u2039\u203a")
"""Characters that a value must not begin with: straight quotation marks, and those of word processors and languages."""
_ENDS = re.compile(r"^[\s\u200b\u2060\ufeff]+|[\s\u200b\u2060\ufeff]+$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_COUNT = re.compile(r"[0-9]{1,18}")

#: Options that any target takes, with their help; what is left is the adapter's own.
COMMON_OPTIONS: Mapping[str, str] = {
    "include": "only names that match one of these patterns (separated by |) go to this target",
    "exclude": "names that match one of these patterns (separated by |) do not go to this target",
    "every": "of each scalar, only steps that are a multiple of this number go to this target",
    "media": "off: images, histograms, tables, video, audio, text, HTML and figures do not go to this target",
}


@dataclass(frozen=True, slots=True)
class Target:
    """One backend of a run, as the user named it.

    Args:
        name: Name of the adapter.
        path: The text after `:` or the authority; "" if there is none.
        authority: The text between `://` and the next `/`; "" if there is none.
        options: The adapter's own options, as text.
        filters: The options every target takes: include, exclude, every, media.
        origin: Where it was written, for messages; not a part of the target's identity.
        origins: For options that were not written in the target itself, where each came from.
        named: Whether this account named it: as an argument, in a setting or on a command line. A target from the files
            of a run was not: anybody may have written those.
        behind_blanks: Words after blanks and semicolons in the text: one of them may have been meant as a separate
            target.
        behind_signs: Words after `+`, `|` and `&` too, each with that character in front.

    Example:
        >>> parse_targets("wandb://team/digits?mode=offline")[0].options["mode"]
        'offline'
    """

    name: str
    path: str = ""
    authority: str = ""
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    filters: Mapping[str, str] = field(default_factory=dict[str, str])
    origin: str = field(default="", compare=False, repr=False)
    origins: Mapping[str, str] = field(default_factory=dict[str, str], compare=False, repr=False)
    named: bool = field(default=False, compare=False, repr=False)
    behind_blanks: tuple[str, ...] = field(default=(), compare=False, repr=False)
    behind_signs: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        """The target in canonical form: parsing it gives an equal target."""
        text = self.name
        if self.authority:
            text += f"://{quote(self.authority, safe=':', errors='surrogatepass')}"
            text += f"/{_quote_ends(self.path)}" if self.path else ""
        elif self.path:
            # What begins with "//" would be read as an authority.
            text += f"{'://' if self.path.startswith('//') else ':'}{_quote_ends(self.path)}"
        pairs = sorted({**self.options, **self.filters}.items())
        if pairs:
            text += "?" + "&".join(f"{_quote_key(key)}={_quote_ends(value)}" for key, value in pairs)
        return text

    @property
    def bare(self) -> Target:
        """The target without its filters: they select records, not the place."""
        return replace(self, filters={})

    @property
    def key(self) -> str:
        """Identity of the target as it is written: changing a filter does not change where things go.

        Where things go may be written in several ways; what a run keeps of it is under `places.cursor_key`.
        """
        return key_of(self.name, str(self.bare))

    def takes(self, kind: str, name: str | None, step: int | None) -> bool:
        """Whether the filters let a value through.

        Args:
            kind: Kind of the record.
            name: Name of the value; None for records without names.
            step: Its step; None for records without steps.
        """
        return passes(self.filters, kind, name, step)


def key_of(name: str, place: str) -> str:
    """A key that is safe as the name of a file.

    Args:
        name: Name of an adapter.
        place: Where things go, as the adapter says it, or as the target does.
    """
    return f"{name}-{hashlib.sha256(place.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def passes(filters: Mapping[str, str], kind: str, name: str | None, step: int | None) -> bool:
    """Whether filters let a value through; see `Target.takes`."""
    if not filters:
        return True
    row = KINDS.get(kind)
    if filters.get("media") == "off" and (row is None or row.is_media):
        return False
    if name is not None and (row is None or row.has_step):
        if "include" in filters and not _matches(name, filters["include"]):
            return False
        if "exclude" in filters and _matches(name, filters["exclude"]):
            return False
    return not (kind == "scalars" and step is not None and "every" in filters and step % int(filters["every"]))


def parse_targets(text: str, *, origin: str = "TRACKING_BACKEND") -> list[Target]:
    """Parse targets joined by commas.

    Args:
        text: What the user wrote.
        origin: Where it was written, for the error message.

    Raises:
        SettingsError: It does not follow the grammar, or holds a secret.
    """
    parts = [part.strip() for part in text.split(",")]
    targets = [parse_target(part, origin=origin) for part in parts if part]
    if not targets:
        raise SettingsError(
            f"{origin}: names no backend; leave it out for the local store, or write 'none' to record nothing"
        )
    return targets


def parse_target(text: str, *, origin: str = "TRACKING_BACKEND") -> Target:
    """Parse one target; see `parse_targets`."""
    match = _NAME.match(text)
    if not match:
        hint = "; remove the quotation marks" if text.startswith(QUOTES) else ""
        raise SettingsError(
            f"{origin}: {_shown(text)} does not start with the name of a backend, such as 'tensorboard:./tb'{hint}"
        )
    name, rest = match.group().lower(), text[match.end() :]
    rest, _, query = rest.partition("?")
    authority = path = ""
    if rest.startswith("://"):
        authority, slash, path = rest[3:].partition("/")
        if not authority:
            path = slash + path
    elif rest.startswith(":"):
        path = rest[1:]
    elif rest:
        hint = "; targets are joined by commas" if _JOINTS.match(rest) else ""
        if not rest.strip() or rest.lstrip().startswith(":"):
            hint = f"; remove the blank after {name!r}"
        raise SettingsError(
            f"{origin}: after {name!r} expected ':path', '://authority/path' or '?option=value', got {_shown(rest)}"
            f"{hint}"
        )
    for part, before in ((authority, f"{name}://"), (path, f"{name}:" if not authority else "/")):
        _refuse_quotes(part, origin)
        _refuse_blank_ends(part, before, origin)
    texts = [rest]
    path, authority = _unquote(path, origin), _unquote(authority, origin)
    if "@" in authority or _holds_secret(path) or _holds_secret(authority):
        raise SettingsError(f"{origin}: the target {name!r} holds a user, password or key; {KEYS_COME}")
    options, filters = _options(name, query, origin, texts)
    signs = (found for part in texts for found in _SIGNS.findall(part))
    target = Target(
        name, path, authority, options, filters, origin,
        behind_blanks=tuple(word for part in texts for word in re.split(r"[\s;]+", part)[1:]),
        behind_signs=tuple(joint[-1] + word for joint, word in signs if joint[-1] in "+|&"),
    )  # fmt: skip
    refuse_control_characters(target, origin=origin)
    return target


def refuse_control_characters(target: Target, *, origin: str) -> None:
    """Refuse a target with a control character in it, which no directory, server or project has in its name.

    Args:
        target: The target.
        origin: Where it was written, for the error message.

    Raises:
        SettingsError: It has one.
    """
    parts = {"": target.path, "//": target.authority, **target.options, **target.filters}
    for option, text in parts.items():
        found = _CONTROL.search(option + text)
        if found is not None:
            what = "null character" if found[0] == "\0" else f"control character {found[0]!r}"
            hint = "; targets are joined by commas" if found[0].isspace() else ""
            raise SettingsError(
                f"{target.origins.get(option) or origin}: the target {target.name!r} contains the {what}, in "
                f"{_shown(f'{option}={text}' if option.strip('/') else text)}{hint}"
            )


def _refuse_blank_ends(text: str, before: str, origin: str) -> None:
    bare = _ENDS.sub("", text)
    if bare != text:
        raise SettingsError(
            f"{origin}: {_shown(before + text)} has a blank at the beginning or the end of {_shown(text)}: write "
            f"{_shown(before + bare)}; a blank that belongs to it is written as %20"
        )


def _refuse_quotes(text: str, origin: str) -> None:
    if text.startswith(QUOTES):
        raise SettingsError(
            f"{origin}: {_shown(text)} begins with a quotation mark; remove it, or write it as "
            f"{quote(text[0])} if it belongs to the value"
        )


KEYS_COME = "keys come from the backend's own environment variables or login, never from a target"
"""What to do about a secret in a target."""


def check_options(name: str, options: Mapping[str, str], *, origin: str) -> tuple[dict[str, str], dict[str, str]]:
    """Split options into the adapter's own and the filters; refuse secrets and filters that make no sense."""
    own: dict[str, str] = {}
    filters: dict[str, str] = {}
    for key, value in options.items():
        if _is_secret(key, value):
            raise SettingsError(f"{origin}: the option {key!r} of the target {name!r} looks like a secret; {KEYS_COME}")
        (filters if key in COMMON_OPTIONS else own)[key] = value
    every = filters.get("every")
    if every is not None and not (_COUNT.fullmatch(every) and int(every) > 0):
        raise SettingsError(f"{origin}: {name}?every={every}: expected a positive whole number of steps")
    for key in ("include", "exclude"):
        if key in filters and not all(filters[key].split("|")):
            raise SettingsError(
                f"{origin}: {name}?{key}={filters[key]}: a pattern is empty, and no name matches it; write "
                f"{key}=PATTERN, or leave {key} out"
            )
    media = filters.get("media")
    if media is not None and media not in {"on", "off"}:
        raise SettingsError(f"{origin}: {name}?media={media}: expected 'on' or 'off'")
    return own, filters


def _options(name: str, query: str, origin: str, texts: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    pairs: dict[str, str] = {}
    for part in query.split("&"):
        if not part:
            continue
        key, equals, value = part.partition("=")
        key = _unquote(key, origin).strip()
        if not equals or not key:
            raise SettingsError(
                f"{origin}: options of {name!r} are written key=value, got {_shown(part)}; another target is joined "
                "by a comma"
            )
        if key in pairs:
            raise SettingsError(f"{origin}: the option {key!r} of {name!r} appears twice")
        patterns = key in {"include", "exclude"}
        for one in value.split("|") if patterns else [value]:
            _refuse_quotes(one, origin)
            _refuse_blank_ends(one, f"{_shown(key)[1:-1]}=", origin)
        if not patterns:
            texts.append(value)
        pairs[key] = _unquote(value, origin)
    return check_options(name, pairs, origin=origin)


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns.split("|"))


def redact_targets(text: str) -> str:
    """Targets for showing to people: as they were written, without what looks like a secret.

    Args:
        text: What TRACKING_BACKEND says, whether it can be parsed or not.
    """
    from tracking_core.base.redaction import REDACTED, redact_text

    def option(match: re.Match[str]) -> str:
        hidden = _is_secret(unquote(match[2]), unquote(match[3]))
        return f"{match[1]}{match[2]}={REDACTED}" if hidden else match[0]

    text = re.sub(r"://[^/?,]*(?:@|%40)", f"://{REDACTED}@", text)
    return redact_text(re.sub(r"([?&])([^=&,]+)=([^&,]*)", option, text))


def redact_option(option: str, value: str) -> str:
    """The value of an option for showing to people."""
    from tracking_core.base.redaction import REDACTED, redact_text

    return REDACTED if _is_secret(option, value) else redact_text(value)


def _is_secret(option: str, value: str) -> bool:
    from tracking_core.base.redaction import is_secret_name

    return is_secret_name(option) or _SECRET_VALUE.match(value) is not None or _holds_secret(value)


def _holds_secret(text: str) -> bool:
    """Whether a password in an address, or a key of a known form, is in a text."""
    from tracking_core.base.redaction.text import redact_values

    return redact_values(text, None) != text


def _quote(text: str) -> str:
    return quote(text, safe="/:\\~@!$'()*+;= ", errors="surrogatepass")


def _quote_ends(text: str) -> str:
    """A value whose beginning is not taken for a quotation, and whose ends are not taken for blanks around it."""
    bare = text.strip(" ")
    begin = len(text) - len(text.lstrip(" ")) if bare else 0
    quoted = f"%27{_quote(bare[1:])}" if bare.startswith("'") and not begin else _quote(bare)
    return "%20" * begin + quoted + "%20" * (len(text) - len(bare) - begin)


def _quote_key(text: str) -> str:
    return quote(text, safe="/:@!$()*;", errors="surrogatepass")


def _unquote(text: str, origin: str) -> str:
    try:
        return unquote(text, errors="surrogatepass")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{origin}: {_shown(text)} is percent-encoded, but not as UTF-8") from error


def _shown(text: str) -> str:
    # Only its start: what cannot be parsed may hold anything, a key included.
    from tracking_core.base.redaction import redact_text

    return repr(redact_text(text)[:60])
