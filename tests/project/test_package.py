"""The package as a whole: what importing it costs, what is public, and that imports run downward only."""

from __future__ import annotations

import ast
import json
import socket
import subprocess
import sys
import sysconfig
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import tracking_core as tracking
from tests.support.programs import REPO
from tracking_core.base.lazy import homes_of

CORE = REPO / "tracking_core"
ADAPTERS = REPO / "adapters"
HEAVY = {
    "jax", "jaxlib", "flax", "optax", "wandb", "tensorboardX", "tensorboard", "pyarrow", "optuna", "fsspec", "PIL", "numpy", "pluggy", "msgspec",
    "click", "rich", "pydantic", "importlib.metadata", "tracking_wandb", "tracking_tensorboard",
}  # fmt: skip

#: The packages of the core and its loose files, from the bottom to the top: each may import only what stands before it.
LAYERS = [
    "_version", "errors", "protocol", "naming", "base", "environment", "remote", "values", "fallbacks", "wrappers",
    "journal", "layout", "artifacts", "on_device", "backends", "intake", "delivery", "compaction", "mirror", "store",
    "runs", "transfer", "testing", "compat", "cli",
]  # fmt: skip

#: Older names of modules, which other things may still ask for.
ALIASES = {"health", "hookspecs", "importing", "null_adapter"}

#: Imports that run upward all the same, and why.
UPWARD = {
    ("intake.local_adapter", "testing"): "the harness of this adapter, which the contract suite alone asks for",
}

HOMES = homes_of(tracking._HOMES)

#: What an adapter may import from; of `tracking_core` itself the names in its `__all__`.
PUBLIC_MODULES = {
    "tracking_core",
    "tracking_core.errors",
    "tracking_core.naming",
    "tracking_core.testing",
    "tracking_core.values",
}


def imported_by(code, *, cwd):
    """Which modules a program loads, in an interpreter that has loaded nothing before.

    Without `site`: in a development environment its `.pth` files load packages of their own accord. What is
    installed can be imported all the same.
    """
    program = f"""
import sys
sys.path[:0] = {[str(REPO), str(ADAPTERS)]!r}
sys.path.append({sysconfig.get_paths()["purelib"]!r})
before = set(sys.modules)
{code}
import json
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


# ---------------------------------------------------------------- the cost of imports


def test_importing_the_package_loads_nothing_heavy(tmp_path):
    loaded = imported_by("import tracking_core", cwd=tmp_path)
    assert not loaded & HEAVY
    assert {name for name in loaded if name.startswith("tracking_core")} == {
        "tracking_core", "tracking_core._version", "tracking_core.base", "tracking_core.base.lazy"
    }  # fmt: skip
    # The test can see what it forbids.
    assert {"numpy", "PIL"} <= imported_by("import numpy, PIL", cwd=tmp_path)


@pytest.mark.system
@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("from tracking_core import errors, Tracker, SupportsTables, Target, NullTracker, scope, naming", set()),
        ("from tracking_core import NullTracker; NullTracker().log_scalars({'a': 1}, step=0)", set()),
        ("import tracking_core.environment.settings, tracking_core.protocol, tracking_core.wrappers, tracking_core.fallbacks", set()),
        ("import tracking_core.backends.hooks", {"pluggy"}),
        ("import tracking_core.compat.wandb as wandb; wandb.init, wandb.Error, dir(wandb)", {"numpy", "msgspec"}),
        ("import tracking_core.compat.wandb as wandb; dir(wandb)", set()),
        ("import tracking_core.values", {"numpy"}),
        ("import tracking_core.journal", {"numpy", "msgspec"}),
        ("import tracking_tensorboard", {"numpy", "pluggy", "tracking_tensorboard"}),
        ("import tracking_wandb", {"numpy", "pluggy", "tracking_wandb"}),
        ("import tracking_core as t; t.start_run(backends='none').log_scalars({'a': 1}, step=0)", {"numpy", "pluggy", "msgspec", "importlib.metadata"}),
        (
            "import tracking_core as t\nwith t.start_run(root='runs', backends='local') as r: r.log_scalars({'a': 1}, step=0)",
            {"numpy", "pluggy", "msgspec", "importlib.metadata"},
        ),
    ],
)  # fmt: skip
def test_nothing_heavy_is_loaded_before_it_is_needed(tmp_path, code, allowed):
    # numpy itself asks for its own version in ways of its own.
    assert (imported_by(code, cwd=tmp_path) & HEAVY) - allowed == set()


@pytest.mark.system
def test_every_module_can_be_imported_first(tmp_path):
    """Whatever is imported first: circles show only for some."""
    modules = sorted(
        module_name(path) for path in CORE.rglob("*.py") if path.name not in {"__main__.py", "pytest_plugin.py"}
    )
    program = f"""
import sys, importlib
sys.path[:0] = {[str(REPO), str(ADAPTERS)]!r}
for name in {modules!r}:
    for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == "tracking_core"]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except Exception as error:
        print(name, repr(error))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


# ---------------------------------------------------------------- what is public


def test_all_is_the_truth():
    assert sorted(tracking.__all__) == tracking.__all__
    assert len(set(tracking.__all__)) == len(tracking.__all__)
    homes = [name for names in tracking._HOMES.values() for name in names]
    assert len(set(homes)) == len(homes)
    assert set(tracking.__all__) == {*homes, *tracking._MODULES, "__version__"}
    assert dir(tracking) == tracking.__all__


@pytest.mark.parametrize("name", tracking.__all__)
def test_every_public_name_is_where_it_is_said_to_be(name):
    value = getattr(tracking, name)
    if name in tracking._MODULES:
        assert value is import_module(f"tracking_core.{name}")
    elif name != "__version__":
        assert value is getattr(import_module(f"tracking_core.{HOMES[name]}"), name)
    assert name == "__version__" or getattr(value, "__doc__", None) or isinstance(value, int)


def test_type_checkers_see_the_same_names():
    """What stands under TYPE_CHECKING is what the lazy loading gives."""
    tree = ast.parse((CORE / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            seen[alias.name] = node.module.removeprefix("tracking_core").lstrip(".")
    assert seen == {**HOMES, **dict.fromkeys(tracking._MODULES, "")}


def test_other_names_are_no_attributes():
    with pytest.raises(AttributeError, match="'tracking_core' has no attribute 'nothing'"):
        _ = tracking.nothing
    assert not hasattr(tracking, "np")


@pytest.mark.parametrize(
    "module", ["values", "journal", "store", "artifacts", "intake", "testing", "base.redaction", "transfer"]
)
def test_all_of_the_packages_is_the_truth(module):
    package = import_module(f"tracking_core.{module}")
    assert sorted(set(package.__all__)) == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None


@pytest.mark.parametrize(
    ("older", "name", "now"),
    [
        ("importing", "import_runs", "transfer"),
        ("importing", "Packed", "transfer"),
        ("hookspecs", "AdapterInfo", "backends.hooks"),
        ("health", "Health", "runs.health"),
        ("null_adapter", "tracking_adapter", "backends.null_adapter"),
        ("null_adapter", "open_tracker", "backends.null_adapter"),
        ("store.adapter", "tracking_adapter", "intake.local_adapter"),
        ("store.adapter", "open_tracker", "intake.local_adapter"),
        ("mirror.process", "main", "mirror.server"),
        ("store.compaction", "main", "compaction.compaction"),
    ],
)
def test_older_names_of_modules_still_work(older, name, now):
    value = getattr(import_module(f"tracking_core.{older}"), name)
    assert value is getattr(import_module(f"tracking_core.{now}"), name)


def test_a_training_that_began_before_an_upgrade_can_start_a_deliverer(tmp_path):
    """It knows the older name of the module."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-P", "-m", "tracking_core.delivery.process", str(theirs.fileno())]
        process = subprocess.Popen(command, cwd=tmp_path, pass_fds=[theirs.fileno()], process_group=0)
        ours.sendall(b'{"do": "reports", "run": "none", "id": 1}\n')
        assert json.loads(ours.makefile().readline())["id"] == 1
        ours.sendall(b'{"do": "bye"}\n')
        assert process.wait(60) == 0


def test_everything_can_be_imported_with_a_star():
    names = {}
    exec("from tracking_core import *", names)
    assert names.keys() >= set(tracking.__all__)


# ---------------------------------------------------------------- directions


def module_name(path):
    """The dotted name of a file under a root that is on the path."""
    root = REPO if path.is_relative_to(CORE) else ADAPTERS
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path) for path in CORE.rglob("*.py")}


def unit_of(module):
    """The entry of `LAYERS` a module of the core belongs to; None for the door, which loads everything lazily."""
    unit = module.removeprefix("tracking_core").lstrip(".").partition(".")[0]
    return unit if unit and unit not in ALIASES else None


@cache
def imports_of(path):
    """(module, name or None, line) of every import of a file, those inside functions too, those for types not."""
    found = []

    def visit(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, None, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import"
            found.extend((node.module, alias.name, node.lineno) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def source_of(module, name):
    """The module that a name comes from, as far as it is known: `from tracking_core import x` asks for x's home."""
    if name and f"{module}.{name}" in MODULES:
        return f"{module}.{name}"
    if module == "tracking_core" and name in HOMES:
        return f"tracking_core.{HOMES[name]}"
    return module


def test_every_package_has_a_layer():
    assert {unit_of(module) for module in MODULES} == {None, *LAYERS}


def imported_modules(path):
    """(module of the core, line) of every import of the core in a file."""
    for module, name, line in imports_of(path):
        if module.partition(".")[0] == "tracking_core":
            yield source_of(module, name), line


def upward():
    """Imports of the core that run upward: (module, imported package) → where."""
    found = {}
    for path in sorted(CORE.rglob("*.py")):
        here = unit_of(module_name(path))
        for module, line in imported_modules(path) if here else ():
            there = unit_of(module)
            if there is not None and LAYERS.index(there) > LAYERS.index(here):
                pair = module_name(path).removeprefix("tracking_core."), there
                found.setdefault(pair, []).append(f"{path.relative_to(REPO)}:{line}")
    return found


def circles(edges):
    """Sets of nodes that lead to each other, as Tarjan finds them."""
    number, lowest, stack, found = {}, {}, [], []

    def visit(node):
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in number:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(set(stack[at:]))
            del stack[at:]

    for node in sorted(edges):
        if node not in number:
            visit(node)
    return found


@pytest.mark.parametrize("root", [CORE, ADAPTERS], ids=["core", "adapters"])
def test_no_modules_import_each_other(root):
    """Neither at the top of a file nor inside functions."""
    edges = {}
    for path in root.rglob("*.py"):
        here = module_name(path)
        if root == CORE:
            edges[here] = {module for module, _ in imported_modules(path)} - {here, "tracking_core"}
        else:
            names = {f"{module}.{name}" for module, name, _ in imports_of(path)} | {m for m, _, _ in imports_of(path)}
            edges[here] = {name for name in names if name.startswith("tracking_") and name != here.partition(".")[0]}
    edges = {here: there & edges.keys() for here, there in edges.items()}
    assert circles(edges) == []
    # The test can see what it forbids.
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [{"a", "b", "c"}]


def test_imports_run_downward():
    found = upward()
    assert {pair: where for pair, where in found.items() if pair not in UPWARD} == {}
    assert found.keys() == UPWARD.keys(), "an exception is no longer needed"


@pytest.mark.system
def test_the_core_knows_no_adapter():
    """It reaches its own through the entry points, as any other."""
    for path in CORE.rglob("*.py"):
        for module, _, line in imports_of(path):
            assert not module.startswith(("tracking_wandb", "tracking_tensorboard")), f"{path}:{line}"


def test_adapters_import_public_names_only():
    for path in sorted(ADAPTERS.rglob("*.py")):
        for module, name, line in imports_of(path):
            if module.partition(".")[0] == "tracking_core":
                where = f"{path.relative_to(REPO)}:{line}: {module}.{name}"
                assert module in PUBLIC_MODULES, where
                if name is not None:
                    public = getattr(import_module(module), "__all__", None)
                    assert name in public if public is not None else not name.startswith("_"), where


def test_adapters_know_nothing_of_each_other():
    for path in sorted(ADAPTERS.rglob("*.py")):
        own = path.relative_to(ADAPTERS).parts[0]
        for module, _, line in imports_of(path):
            first = module.partition(".")[0]
            assert not first.startswith("tracking_") or first in {own, "tracking_core"}, f"{path}:{line}"


def test_the_folder_of_the_adapters_is_no_package():
    """A package `adapters` exists on the package index; ours must never stand in its way."""
    assert not (ADAPTERS / "__init__.py").exists()
    assert sorted(path.name for path in ADAPTERS.iterdir() if path.name != "__pycache__") == [
        "tracking_tensorboard",
        "tracking_wandb",
    ]


def test_the_packages_say_that_they_are_typed():
    for package in (CORE, *(path for path in ADAPTERS.iterdir() if path.name != "__pycache__")):
        assert (package / "py.typed").is_file()


def test_the_tests_see_the_checkout():
    assert Path(tracking.__file__) == CORE / "__init__.py"
