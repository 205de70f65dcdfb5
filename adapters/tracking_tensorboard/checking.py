"""What can be told of a target before a run starts: without the packages, without a server, and making nothing."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from tracking_core import MissingDependencyError, SettingsError, directory_problem, is_url
from tracking_core.naming import printable
from tracking_tensorboard.location import refuse_host, remote_scheme

if TYPE_CHECKING:
    from tracking_core import Target

_VALUES = {"hparams": ("on", "off"), "layout": ("flat", "scoped")}
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}
_ONLY_READ = frozenset(
    {
        "data", "dvc", "gist", "git", "github", "http", "https", "libarchive", "reference", "root", "tar", "wandb",
        "zip",
    }
)  # fmt: skip
"""Kinds of storage that fsspec can read, but to which it cannot write one file after the other."""
_AROUND_OTHERS = frozenset(
    {
        "async_wrapper", "asynclocal", "asyncwrapper", "blockcache", "cached", "dask", "dir", "filecache", "generic",
        "pyscript", "simplecache",
    }
)  # fmt: skip
"""Kinds that only wrap another kind: alone they cannot be written to."""


def check(target: Target) -> None:
    """Check a target.

    Raises:
        SettingsError: A value or the place cannot be right.
        MissingDependencyError: What writes to such a place is not installed.
    """
    check_options(target)
    refuse_host(target)
    if not target.path:
        return
    scheme = remote_scheme(target.path)
    if scheme is not None:
        _check_bucket(target, scheme)
        return
    if is_url(target.path):
        # What no scheme is called, such as one with an underscore.
        raise _no_storage(target, target.path.partition("://")[0])
    problem = directory_problem(target.path)
    if problem is not None:
        raise SettingsError(f"{_origin(target)}{str(target)!r}: {problem}; name another directory")


def check_options(target: Target) -> None:
    """Check the values of options.

    Raises:
        SettingsError: One of them is none that the option takes.
    """
    for option, values in _VALUES.items():
        given = target.options.get(option)
        if given is not None and given not in values:
            origin = target.origins.get(option) or target.origin
            where = f"{origin}: " if origin else ""
            expected = " or ".join(map(repr, values))
            raise SettingsError(f"{where}tensorboard?{option}={given}: expected {expected}")


def _check_bucket(target: Target, scheme: str) -> None:
    package = _PACKAGES.get(scheme)
    missing = [name for name in ("fsspec", package) if name and importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"{_origin(target)}tensorboard:{scheme}:// needs {', '.join(missing)}: pip install 'tracking-core[remote]'"
        )
    if package is None:
        _check_other(target, scheme)
    if not target.path.partition("://")[2].strip("/"):
        raise SettingsError(f"{_origin(target)}{str(target)!r}: expected tensorboard:{scheme}://BUCKET/PREFIX")


def _check_other(target: Target, scheme: str) -> None:
    """See that fsspec knows a kind of storage that is no usual one, and that it is none for which a path does."""
    from fsspec.registry import known_implementations, registry

    if scheme in {"file", "local"}:
        path = target.path.partition("://")[2]
        raise SettingsError(f"{_origin(target)}{str(target)!r}: write only the directory, as in tensorboard:{path}")
    if scheme in _ONLY_READ | _AROUND_OTHERS or (scheme not in registry and scheme not in known_implementations):
        raise _no_storage(target, scheme)
    package = "" if scheme in registry else str(known_implementations[scheme]["class"]).partition(".")[0]
    if package and importlib.util.find_spec(package) is None:
        raise MissingDependencyError(
            f"{_origin(target)}tensorboard:{scheme}:// needs {package}, which is not installed; fsspec says: "
            f"{known_implementations[scheme].get('err', 'install it')}"
        )


def _no_storage(target: Target, scheme: str) -> SettingsError:
    return SettingsError(
        f"{_origin(target)}tensorboard: cannot write to {printable(scheme)}://; name a directory, s3:// or gs://, or "
        "another kind of storage that fsspec can write to; put ./ in front of a directory of that name"
    )


def _origin(target: Target) -> str:
    return f"{target.origin}: " if target.origin else ""
