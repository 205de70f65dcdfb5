"""What can be told of a target before a run starts: without the packages, without a server, and making nothing."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tracking_core import MissingDependencyError, SettingsError
from tracking_core.naming import printable
from tracking_tensorboard.location import refuse_host, remote_scheme

if TYPE_CHECKING:
    from tracking_core import Target

_VALUES = {"hparams": ("on", "off")}
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}


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


def directory_problem(path: str) -> str | None:
    """Why a directory cannot be written to, or made, as far as that can be told; None where nothing speaks against it.

    Args:
        path: As a target names it.
    """
    try:
        if b"\0" in os.fsencode(path):
            return f"{printable(path)} has a null character in it"
    except UnicodeEncodeError:
        return f"{printable(path)} has characters in it that no file name can hold"
    try:
        place = Path(path).expanduser().absolute()
        found = next(one for one in (place, *place.parents) if one.exists())
        if not found.is_dir():
            return f"{found} is a file" + ("" if found == place else f", so {place} cannot be a directory")
        if not os.access(found, os.W_OK | os.X_OK):
            return f"{found} cannot be written to"
    except RuntimeError as error:
        # A "~" of which nobody knows whose home it is.
        return str(error)
    except FileNotFoundError:
        # The working directory is gone; whoever makes the path absolute says so.
        return None
    except OSError as error:
        return f"{path} can be no directory: {error.strerror}"
    return None


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
        raise SettingsError(f"{_origin(target)}{str(target)!r}: write the directory alone, as in tensorboard:{path}")
    if scheme not in registry and scheme not in known_implementations:
        raise SettingsError(
            f"{_origin(target)}tensorboard: cannot write to {scheme}://; name a directory, s3:// or gs://, or another "
            "kind of storage that fsspec knows"
        )


def _origin(target: Target) -> str:
    return f"{target.origin}: " if target.origin else ""
