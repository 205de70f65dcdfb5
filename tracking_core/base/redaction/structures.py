"""Removing secrets from command lines, addresses and nested data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from tracking_core.base.redaction.exact import REDACTED, environment_secrets
from tracking_core.base.redaction.secret_names import is_secret_name, may_name_wandb_key
from tracking_core.base.redaction.text import WANDB_KEY, redact_text, redact_text_with, redact_values

_MAX_DEPTH = 150
_ARGUMENT = re.compile(r"(?:-{0,2}|\+{0,2})(?P<name>[A-Za-z_][\w.\-/]*):?=(?P<value>[\s\S]*)")
_FLAG = re.compile(r"--?(?P<name>[A-Za-z_][\w.-]*)")
_SWITCHES = frozenset({"", "true", "false", "none", "null", "yes", "no", "on", "off"})
_SIGNATURES = frozenset({"sig", "signature"})
#: How a mapping says that it is one setting, as for the environment of a container: a name, and its value.
_NAME_FIELDS = frozenset({"name", "key", "variable", "env", "field", "option", "flag", "header"})
_VALUE_FIELDS = frozenset({"value", "val", "values", "default"})
_CURL_USER = re.compile(r"-[A-Za-z]*[uU]|--(?:proxy-)?user")
_CURL_GLUED = re.compile(r"(-[A-Za-z]{0,8}?[uU]|--(?:proxy-)?user=)[^:]*:.*", re.DOTALL)


def redact_argv(argv: Sequence[str]) -> list[str]:
    """A command line with the secrets in it replaced: `--api-key=x`, `--api-key x`, `API_KEY=x`, known forms.

    Args:
        argv: The words of a command line, such as `sys.argv`.

    Returns:
        As many words as went in.

    Example:
        >>> redact_argv(["train.py", "--lr", "0.1", "--api-key", "abc", "wandb.token=xyz"])
        ['train.py', '--lr', '0.1', '--api-key', '[redacted]', 'wandb.token=[redacted]']
    """
    command = _Command(environment_secrets())
    return [command.redact(word) for word in argv]


class _Command:
    """Goes along the words of a command line: what a word is depends on those before it."""

    def __init__(self, environment: tuple[str, ...]) -> None:
        self._environment = environment
        self._previous = ""
        self._curl = False

    def skip(self) -> None:
        """Something that is no word stood there."""
        self._previous = ""

    def redact(self, word: str) -> str:
        """The next word, without a secret."""
        previous, self._previous = self._previous, word
        if self._curl and _CURL_USER.fullmatch(previous) and ":" in word:
            return REDACTED
        if self._curl and (glued := _CURL_GLUED.fullmatch(word)):
            return glued[1] + REDACTED
        self._curl = self._curl or word.rpartition("/")[2] == "curl"
        flag = _FLAG.fullmatch(previous)
        assigned = _ARGUMENT.fullmatch(word)
        if flag and is_secret_name(flag["name"]) and not (word.startswith("--") or re.fullmatch(r"-[A-Za-z]", word)):
            return word if word.lower() in _SWITCHES else REDACTED
        if may_name_wandb_key(previous.lstrip("-")) and WANDB_KEY.fullmatch(word):
            return REDACTED
        if assigned and is_secret_name(assigned["name"]) and assigned["value"].lower() not in _SWITCHES:
            return word[: assigned.start("value")] + REDACTED
        return redact_text_with(word, self._environment)


def redact_url(url: str) -> str:
    """`url` without user, password and secret query parameters, and otherwise as it was.

    The user of what is no web address stays when no password follows: `ssh://git@host/repo`, `git@host:repo`.

    Args:
        url: An address, such as the remote of a git repository.

    Example:
        >>> redact_url("https://me:abc@host/repo.git?token=x&depth=1")
        'https://host/repo.git?depth=1'
    """
    match = re.match(r"(?P<scheme>[A-Za-z][\w+.-]*://)?(?P<authority>[^/?#]*)(?P<path>[^?#]*)", url)
    assert match is not None, "every part of the pattern may be empty"
    scheme, authority, rest = match["scheme"] or "", match["authority"], url[match.end() :]
    user, at, host = authority.rpartition("@")
    if at and (":" in user or scheme.lower().startswith("http")):
        authority = host
    query, _, fragment = rest.partition("#")
    query, fragment = _without_secret_parameters(query.removeprefix("?")), _without_secret_parameters(fragment)
    address = scheme + authority + match["path"] + (query and f"?{query}") + (fragment and f"#{fragment}")
    return redact_text(address)


def _without_secret_parameters(query: str) -> str:
    from urllib.parse import unquote_plus

    def is_secret(parameter: str) -> bool:
        name = unquote_plus(parameter.partition("=")[0])
        return is_secret_name(name) or not _SIGNATURES.isdisjoint(re.split(r"[\W_]+", name.lower()))

    return "&".join(parameter for parameter in query.split("&") if not is_secret(parameter))


def redact_tree(obj: Any) -> Any:
    """A copy of JSON-like nested data with the secrets in it replaced; shape, numbers and other objects stay.

    Text below a secret name goes as a whole, at any depth, and so does the value of `{"name": "api_key", "value": …}`,
    of the pair `["api_key", …]` in a list of pairs, and what follows a flag in a list of words. Numbers, booleans and
    None stay under any name: a setting such as `max_token: 5` is no secret. All other text goes through `redact_text`.

    Args:
        obj: Nested mappings (returned as dicts), lists and tuples of anything.

    Example:
        >>> redact_tree({"lr": 0.1, "wandb": {"api_key": "abc", "note": "password=x"}})
        {'lr': 0.1, 'wandb': {'api_key': '[redacted]', 'note': 'password=[redacted]'}}
    """
    return _redact_tree(obj, environment_secrets(), secret=False, depth=0)


def _redact_tree(obj: Any, environment: tuple[str, ...], *, secret: bool, depth: int) -> Any:
    if isinstance(obj, str):
        return (obj and REDACTED) if secret else redact_text_with(obj, environment)
    if isinstance(obj, Mapping):
        if depth > _MAX_DEPTH:
            return REDACTED  # too deep to look into, so not to be trusted
        mapping = cast("Mapping[Any, Any]", obj)
        names_one = any(_is_field(key, _NAME_FIELDS) and _names_secret(value) for key, value in mapping.items())
        tree: dict[Any, Any] = {}
        for key, value in mapping.items():
            below = secret or (isinstance(key, str) and _is_secret_item(key, value))
            below = below or (names_one and _is_field(key, _VALUE_FIELDS))
            tree[_redact_key(key, environment, tree)] = _redact_tree(value, environment, secret=below, depth=depth + 1)
        return tree
    if isinstance(obj, list | tuple):
        if depth > _MAX_DEPTH:
            return REDACTED
        redacted = _redact_items(cast("Sequence[Any]", obj), environment, secret=secret, depth=depth + 1)
        return redacted if isinstance(obj, list) else tuple(redacted)
    return REDACTED if secret and isinstance(obj, bytes | bytearray) else obj


def _redact_items(items: Sequence[Any], environment: tuple[str, ...], *, secret: bool, depth: int) -> list[Any]:
    command, pairs = _Command(environment), _are_pairs(items)
    redacted: list[Any] = []
    for item in items:
        if isinstance(item, str) and not secret:
            redacted.append(command.redact(item))
            continue
        command.skip()
        # `["password", "token"]` is a list of names.
        if pairs and not secret and _is_secret_item(item[0], item[1]) and not _names_secret(item[1]):
            value = _redact_tree(item[1], environment, secret=True, depth=depth + 1)
            redacted.append(type(item)((redact_values(item[0], environment), value)))
        else:
            redacted.append(_redact_tree(item, environment, secret=secret, depth=depth))
    return redacted


def _are_pairs(items: Sequence[Any]) -> bool:
    """Whether a list is a mapping written as pairs, as headers often are."""
    return all(type(item) in {list, tuple} and len(item) == 2 and isinstance(item[0], str) for item in items)


def _is_field(key: object, fields: frozenset[str]) -> bool:
    return isinstance(key, str) and key.lower() in fields


def _names_secret(value: object) -> bool:
    return isinstance(value, str) and is_secret_name(value)


def _is_secret_item(key: str, value: object) -> bool:
    if is_secret_name(key):
        return True
    return may_name_wandb_key(key) and isinstance(value, str) and WANDB_KEY.fullmatch(value) is not None


def _redact_key(key: Any, environment: tuple[str, ...], taken: Mapping[Any, Any]) -> Any:
    if not isinstance(key, str):
        return key
    name = redacted = redact_values(key, environment)
    number = 1
    while name in taken:  # two secrets as keys must not become one
        number += 1
        name = f"{redacted}#{number}"
    return name
