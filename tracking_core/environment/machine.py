"""Where a run ran: host, program, code, packages and accelerators.

Nothing here raises, and nothing starts what the user has not started: git is asked without locks, hooks or prompts,
and JAX only once its backends are up.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from tracking_core.base.redaction import redact_argv, redact_name, redact_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracking_core.environment.git import GitState

_T = TypeVar("_T")
_FIELDS = re.compile(r"^(Name|Version): *(.*?)\s*$", re.MULTILINE)


class Identity(TypedDict):
    """What `identity` returns; a field that cannot be found out is None."""

    python: str
    implementation: str
    executable: str
    platform: str
    host: str | None
    user: str | None
    pid: int
    cwd: str | None
    argv: list[str]
    program: str | None


class Capture(TypedDict):
    """What `capture` returns."""

    git: GitState
    packages: list[str]
    cpu_count: int | None
    cpus_usable: int | None
    memory_bytes: int | None


class Accelerators(TypedDict):
    """What `accelerators` returns: counts of devices are over all processes, unless they are called local."""

    platform: str
    kinds: dict[str, int]
    device_count: int
    local_device_count: int
    process_index: int
    process_count: int
    jax: str | None


def identity() -> Identity:
    """Who and where this process is; takes well under a millisecond and starts no other process.

    The argument list comes redacted, the executable as its base name, the program as the absolute path of the main
    script (None in an interactive session).
    """
    system = os.uname()
    return redact_tree(
        Identity(
            python=".".join(map(str, sys.version_info[:3])),
            implementation=sys.implementation.name,
            executable=os.path.basename(sys.executable or ""),  # noqa: PTH119 - pathlib is slow to import
            platform=f"{system.sysname}-{system.release}-{system.machine}",
            host=system.nodename or None,
            user=_user(),
            pid=os.getpid(),
            cwd=_or_none(os.getcwd),
            argv=redact_argv(getattr(sys, "argv", [])),
            program=_program(),
        )
    )


def capture(cwd: str | os.PathLike[str]) -> Capture:
    """The slow part, for a background thread: up to several seconds, most of it spent waiting for git.

    Args:
        cwd: A directory in the user's repository; outside of one, `git` is empty.
    """
    from tracking_core.environment.git import git_state

    return Capture(
        git=_or_none(lambda: git_state(cwd)) or {},
        packages=list(_or_none(_packages) or ()),
        cpu_count=os.cpu_count(),
        cpus_usable=_or_none(lambda: len(os.sched_getaffinity(0))),
        memory_bytes=_or_none(lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
    )


def accelerators() -> Accelerators | None:
    """The devices of JAX, once the user's own code has initialised them; None before.

    Asking JAX itself too early would initialise its backends, after which `jax.distributed.initialize()` fails, so
    its module state is looked at first.
    """
    try:
        jax: Any = sys.modules["jax"]
        bridge: Any = sys.modules["jax._src.xla_bridge"]
        # `_default_backend` is set last: while it is None, another thread may still be initialising.
        if not bridge._backends or getattr(bridge, "_default_backend", bridge) is None:  # noqa: SLF001 - see above
            return None
        devices = jax.devices()
        return Accelerators(
            platform=str(devices[0].platform),
            kinds=dict(Counter(str(device.device_kind) for device in devices)),
            device_count=len(devices),
            local_device_count=int(jax.local_device_count()),
            process_index=int(jax.process_index()),
            process_count=int(jax.process_count()),
            jax=getattr(jax, "__version__", None),
        )
    except Exception:  # noqa: BLE001 - JAX is absent, half imported, or of a version that keeps its state elsewhere
        return None


def _or_none(ask: Callable[[], _T]) -> _T | None:
    try:
        return ask()
    except Exception:  # noqa: BLE001 - what cannot be found out is left out; a run is not stopped by it
        return None


def _user() -> str | None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        if os.environ.get(name):
            return os.environ[name]

    def from_database() -> str:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name

    return _or_none(from_database)


def _program() -> str | None:
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    # Absolute without following links; for a program read from a pipe the path is "<stdin>".
    return _or_none(lambda: os.path.abspath(path) if os.path.isfile(path) else None) if path else None  # noqa: PTH100, PTH113 - pathlib is slow to import


def _packages() -> tuple[str, ...]:
    """Installed distributions, redacted; looked up again only where something was installed, or the path is another."""
    return _packages_on(tuple((entry, _changed(entry or os.curdir)) for entry in sys.path))


def _changed(directory: str) -> int | None:
    return _or_none(lambda: os.stat(directory).st_mtime_ns)  # noqa: PTH116 - pathlib is slow to import


@lru_cache(maxsize=1)
def _packages_on(_path: tuple[tuple[str, int | None], ...]) -> tuple[str, ...]:
    """Distributions as sorted `name==version`, each once: the first on the path is what is imported."""
    from importlib.metadata import distributions

    found: dict[str, str] = {}
    for distribution in distributions():
        # The two lines alone: as a message, with the whole readme below, each file takes ten times as long to read.
        text = _or_none(lambda d=distribution: d.read_text("METADATA") or d.read_text("PKG-INFO")) or ""
        fields = dict(_FIELDS.findall(text.partition("\n\n")[0]))
        # A broken installation may have no metadata at all.
        if name := fields.get("Name"):
            found.setdefault(re.sub(r"[-_.]+", "-", name.lower()), f"{name}=={fields.get('Version')}")
    return tuple(redact_name(package) for package in sorted(found.values(), key=str.lower))
