"""Finding secrets in running text: by form, by the name in front of them, by the environment."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

from tracking_core.base.redaction.exact import REDACTED, SHORTEST, environment_secrets, redact_exact
from tracking_core.base.redaction.secret_names import is_secret_name, may_name_wandb_key

LARGE = 1 << 16
"""Characters from which on a text is searched in pieces."""
_PIECE = 1 << 14
_OVERLAP = 1 << 11
_Search: TypeAlias = Callable[[str, tuple[str, ...] | None], str]
#: What every name that `is_secret_name` or `may_name_wandb_key` knows has in it: most texts have none of them.
_IN_SECRET_NAMES = (
    "pass", "pwd", "secret", "cred", "auth", "bearer", "jwt", "cookie", "key", "token", "login", "wandb",
)  # fmt: skip
WANDB_KEY = re.compile(r"[0-9a-f]{40}(?![0-9a-zA-Z])")
"""The older keys of Weights & Biases look like git commits: only the name in front tells."""

# Forms as their issuers document them; the lengths are lower bounds, because formats grow. An upper bound stands
# where looking on to the end of a long text from every beginning would take quadratic time.
_KNOWN_FORM = re.compile(
    r"""
    -----BEGIN\ [A-Z0-9 ]*PRIVATE\ KEY(?:\ BLOCK)?-----
      [A-Za-z0-9+/=\s\\:,.-]*? (?: -----END\ [A-Z0-9 ]*PRIVATE\ KEY(?:\ BLOCK)?----- | (?![A-Za-z0-9+/=\s\\:,.-]) | \Z )
    | (?<![A-Za-z0-9])(?:
        wandb_v1_[A-Za-z0-9_-]{16,}                                      # Weights & Biases
      | sk-[A-Za-z0-9]{16,}                                              # OpenAI and those that followed it
      | sk-(?!learn)(?=[A-Za-z_-]{0,60}[0-9])[A-Za-z0-9_-]{16,}
      | (?:gsk|xai|nvapi|tvly|r8|dop_v1|lin_api)[_-][A-Za-z0-9_-]{24,}
      | [rs]k_(?:live|test)_[A-Za-z0-9]{10,}                             # Stripe
      | gh[opusr]_[A-Za-z0-9_]{16,} | github_pat_[A-Za-z0-9_]{16,}       # GitHub
      | gl(?:pat|dt|rt|oas|ptt|cbt|soat|ft)-[A-Za-z0-9_.-]{16,}          # GitLab
      | hf_[A-Za-z0-9]{16,} | api_org_[A-Za-z0-9]{16,}                   # Hugging Face
      | (?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])               # AWS
      | AIza[A-Za-z0-9_-]{35} | ya29\.[A-Za-z0-9_.-]{20,} | GOCSPX-[A-Za-z0-9_-]{20,}   # Google
      | xox[a-z]-[A-Za-z0-9-]{10,} | xapp-[A-Za-z0-9-]{10,}              # Slack
      | npm_[A-Za-z0-9]{30,} | pypi-[A-Za-z0-9_-]{50,} | dckr_pat_[A-Za-z0-9_-]{16,}
      | SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}                       # SendGrid
      | eyJ[A-Za-z0-9_-]{8,999}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)*  # JSON web token
    )
    """,
    re.VERBOSE,
)
# Secrets that are known by the words before them: those words are the groups.
_INTRODUCED = re.compile(
    r"""
      (hooks\.slack\.com/(?:services|workflows)/)[^\s"'<>]+
    | (\bwandb\s++login\s++(?:-\S++\s++)*+)[0-9a-f]{40}\b
    | (\blogin\s++\S++\s++password\s++)[^\s\[]\S*+                       # netrc
    | (\b[Bb]earer\s+)[A-Za-z0-9._~+/=-]{16,}
    """,
    re.VERBOSE,
)
# One for each: in a page of megabytes these are looked for in a fraction of the time, in which no other thread runs.
_INTRODUCING = ("hooks.slack.com/", "wandb", "password", "earer")
# `curl -u user:password`, as a line or as a list of words; `-u key:` has the secret before the colon.
_CURL = re.compile(
    r"""
    ( \bcurl\b (?:[^\n|;&]|\\\n){0,300}? [\s"'] (?:-[A-Za-z]{0,8}[uU]|--(?:proxy-)?user) [\s"',=]{0,8} )
    (?: (?<=") [^"\n]{0,200}:[^"\n]* | (?<=') [^'\n]{0,200}:[^'\n]* | [^\s"',:]{0,200}:[^\s"']* )
    """,
    re.VERBOSE,
)
_USERINFO = re.compile(r"""(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]{0,30}://)([^\s/?\#"'`<>\\]*)@""", re.VERBOSE)

# A name and what stands between it and its value, in the notations of shells, Python, JSON, YAML, INI, TOML and
# query strings. It ends where the value begins, so that a value may itself hold names: `url=https://x?token=…`.
_ASSIGNMENT = re.compile(
    r"""
    (?<!\w) (?P<name>[A-Za-z_][\w-]*+) (?P<close>\\*["'])? \]?
    (?:
        [ \t]*+ : [ \t]*+ (?:[A-Za-z]\w*\.)*                             # an annotated Python name
        (?:str|bytes|SecretStr|Any|Final|ClassVar|Literal|Optional|Annotated|InitVar)\b (?:\[[^\n=]{0,80}?\])?
        (?:[ \t]*+ \| [ \t]*+ [\w.]+)*+ [ \t]*+ = (?!=)
      | [ \t]*+ (?: :=(?!=) | => | =(?![=>]) | :(?!/) )
      | (?(close) [ \t]*+ (?P<comma>,) | (?!) )                          # setenv("NAME", "value")
    )
    [ \t]*+
    """,
    re.VERBOSE,
)
# `--api-key value`, `ENV API_KEY value`
_SPACED = re.compile(
    r"""
    (?: (?<![\w-])--? | \b(?:ENV|setenv|setx|set\ -[a-z]+)[ \t]+ )
    (?P<name>[A-Za-z_][\w.-]*+) [ \t]++ (?=[^\s=-])
    """,
    re.VERBOSE,
)
# `{"name": "api_key", "value": "…"}`, and the same on two lines of YAML.
_NAMED = re.compile(
    r"""
    (?<![\w-]) (?:name|key|variable|env|field|option|flag|header) \\*["']? \s{0,9} [:=] \s{0,9} \\*["']? -{0,2}
    (?P<name>[A-Za-z_][\w.-]*+) \\*["']? \s{0,40} ,? \s{0,40} \\*["']?
    (?:value|val|default) \\*["']? [ \t]{0,9} [:=] [ \t]{0,9}
    """,
    re.VERBOSE,
)
# `["--api-key", "…"]`
_LISTED = re.compile(r"""["'] --? (?P<name>[A-Za-z_][\w.-]*+) \\*["'] \s{0,40} , \s{0,40}""", re.VERBOSE)
_QUOTED = re.compile(
    r"""
    (?P<before>[rbfuRBFU]{0,2}(?P<quote>\"\"\"|'''|\\*["'`]))
    (?P<body>(?:(?!(?P=quote))(?:\\.|[^\\\n]))*+)
    (?P<after>(?P=quote)?)
    """,
    re.VERBOSE,
)
_UNQUOTED = re.compile(
    r"""
    (?:(?:[Bb]earer|[Bb]asic|[Tt]oken|[Dd]igest|[Nn]egotiate|[Aa]pi-?[Kk]ey|[Kk]ey)[ \t]+)?
    (?:\[redacted\]|[^\s"'`,;&<>(){}\[\]|\\])++ (?![(\[])                # no call, no subscript
    """,
    re.VERBOSE,
)
_SHELL_START = re.compile(r"[+ -]?[ \t]*(?:export[ \t]+)?")
_SHELL_VALUE = re.compile(r"""[^\s"']\S*+""")
# What may follow a secret name without being one: types, constants, references to where the value really is.
_HARMLESS = re.compile(
    r"""
    (?: [Tt]rue | [Ff]alse | [Nn]one | null | nil | yes | no | on | off
      | str | bytes | int | float | bool | Any | object | SecretStr
      | \$\w* | (?:self|cls|os|args|opts|flags|FLAGS|cfg|config|settings|env)(?:\.\w+)+ | \.+ | \*+
    ) [.:]?
    """,
    re.VERBOSE,
)
_SMALL_NUMBER = re.compile(r"-?[0-9]{1,5}|-?[0-9]*\.[0-9]+")


def redact_text(text: str) -> str:
    """`text` with every secret in it replaced by `REDACTED`.

    Found are: exact values of environment variables with a secret name, values of a known form, passwords in
    addresses, and what is assigned to a secret name (`api_key="…"`, `"api_key": "…"`, `API_KEY=…`, `--api-key …`,
    `Authorization: Bearer …`). Applying it again changes nothing more.

    Args:
        text: Any text: a line, a diff, a traceback, a document.

    Example:
        >>> redact_text("login(user=1, password='hunter2') at 3f2a91c")
        "login(user=1, password='[redacted]') at 3f2a91c"
    """
    return redact_text_with(text, environment_secrets())


def redact_document(text: str) -> str:
    """Text of the user with what is a secret by itself replaced, and nothing because of the words before it.

    Args:
        text: What is logged as text, a caption or a cell of a table; `token: the` stays in it.
    """
    return redact_values(text, environment_secrets())


def redact_text_with(text: str, environment: tuple[str, ...] | None) -> str:
    """`redact_text` with the result of `environment_secrets()`, for callers with many texts."""
    return _searched(text, environment, _redact_text)


def _redact_text(text: str, environment: tuple[str, ...] | None) -> str:
    text = _redact_values(text, environment)
    lower = text.lower()
    if not any(word in lower for word in _IN_SECRET_NAMES):
        return text
    if "=" in text or ":" in text or "," in text:
        text = _redact_assigned(text, _ASSIGNMENT)
    if " " in text or "\t" in text:
        text = _redact_assigned(text, _SPACED)
    if "--" in text or "val" in text or "default" in text:
        text = _redact_assigned(_redact_assigned(text, _NAMED), _LISTED)
    return text


def redact_values(text: str, environment: tuple[str, ...] | None) -> str:
    """Replace what is a secret by itself, whatever name stands before it."""
    return _searched(text, environment, _redact_values)


def _redact_values(text: str, environment: tuple[str, ...] | None) -> str:
    if len(text) < SHORTEST:
        return text
    text = redact_exact(text, environment)
    text = _KNOWN_FORM.sub(REDACTED, text)
    if any(word in text for word in _INTRODUCING):
        text = _INTRODUCED.sub(lambda match: match[match.lastindex or 0] + REDACTED, text)
    if "curl" in text:
        text = _CURL.sub(lambda match: match[1] + REDACTED, text)
    if "://" in text:
        text = _USERINFO.sub(_without_userinfo, text)
    return text


def _searched(text: str, environment: tuple[str, ...] | None, search: _Search) -> str:
    """What a search makes of a text; of a long one in pieces, since other threads can run between them alone.

    Pieces overlap by more than what a secret is recognised by, so that a text without secrets is told by its pieces.
    Otherwise it is cut at ends of lines around which there are none: only a private key has many lines.
    """
    if len(text) <= LARGE:
        return search(text, environment)
    # Values of the environment may be longer than the overlap, and are found at once.
    text = redact_exact(text, environment)
    cuts, is_clean = [0], True
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE + _OVERLAP]
        if search(piece, ()) != piece:
            is_clean = False
        elif (end := text.rfind("\n", start + _OVERLAP, start + _PIECE)) > cuts[-1]:
            cuts.append(end + 1)
    if is_clean:
        return text
    if "PRIVATE KEY" in text:
        cuts = [0]
    return "".join(search(text[start:end], ()) for start, end in pairwise((*cuts, len(text))))


def _without_userinfo(match: re.Match[str]) -> str:
    scheme, userinfo = match[1], match[2]
    # A user without a password is the way in for ssh, and may be a token for a web server.
    harmless = userinfo in {"", REDACTED} or (":" not in userinfo and not scheme.lower().startswith("http"))
    return match[0] if harmless else f"{scheme}{REDACTED}@"


def _redact_assigned(text: str, notation: re.Pattern[str]) -> str:
    """Replace what stands behind a secret name."""
    parts: list[str] = []
    done = 0
    for match in notation.finditer(text):
        if match.start() < done:
            continue  # inside a secret that is gone already
        span = _secret_behind(text, match)
        if span is not None:
            parts += (text[done : span[0]], REDACTED)
            done = span[1]
    return "".join((*parts, text[done:])) if parts else text


def _secret_behind(text: str, match: re.Match[str]) -> tuple[int, int] | None:
    """Where the secret is that an assignment introduces, as (start, end)."""
    name, at = match["name"], match.end()
    secret = is_secret_name(name)
    if not secret and not may_name_wandb_key(name):
        return None
    quoted = _QUOTED.match(text, at)
    if match.re is _ASSIGNMENT and match["comma"] and not (quoted and name.isupper()):
        return None  # `["password", "token"]` is a list of names
    if match.re is _NAMED and not quoted and "\n" not in match[0]:
        return None  # code: what stands there is the name of something
    if match.re is _LISTED and (not quoted or _is_declared(quoted["body"], name)):
        return None
    if not secret:
        found = WANDB_KEY.match(text, quoted.end("before") if quoted else at)
        return found and found.span()
    if quoted:
        return quoted.span("body") if quoted["body"] not in {"", REDACTED} else None
    found = (_SHELL_VALUE if _is_shell_line(text, match) else _UNQUOTED).match(text, at)
    return found.span() if found and not _is_harmless(found[0], name) else None


def _is_shell_line(text: str, match: re.Match[str]) -> bool:
    """Whether this is `NAME=value` on a line of its own: then the value goes up to the next space."""
    if not match["name"].isupper() or text[match.end() - 1] != "=":
        return False
    # Within bounds, because a text may be one line: indentation is shorter than this.
    first = max(0, match.start() - 80)
    line = text.rfind("\n", first, match.start()) + 1
    return (line > 0 or first == 0) and _SHELL_START.fullmatch(text, line, match.start("name")) is not None


def _is_declared(word: str, name: str) -> bool:
    """Whether code that declares a flag names something behind it: `"--api-key", "-k"`, `"--api-key", "api_key"`."""
    return word.startswith("-") or word.replace("-", "_") == name.replace("-", "_")


def _is_harmless(value: str, name: str) -> bool:
    if _SMALL_NUMBER.fullmatch(value):
        return "pass" not in name.lower()
    return value in {name, REDACTED} or _HARMLESS.fullmatch(value) is not None
