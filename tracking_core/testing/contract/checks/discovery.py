"""Discovery: the adapter is found by name, describes itself, and imports nothing before it is opened."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tracking_core.backends.hooks import AdapterInfo, Finding
from tracking_core.backends.targets import Target, parse_target
from tracking_core.errors import SettingsError
from tracking_core.protocol import API_VERSION, CORE_CAPABILITIES, OPTIONAL_CAPABILITIES
from tracking_core.testing.contract.registry import check

if TYPE_CHECKING:
    from tracking_core.testing.contract.context import Context

#: What no adapter needs in order to say what it is, whatever it requires later.
_FRAMEWORKS = ("jax", "jaxlib", "flax", "torch", "tensorflow")

_LOAD = """
import importlib, json, sys
sys.path[:] = json.loads(sys.argv[1])
name, reference = sys.argv[2], sys.argv[3]
from tracking_core.backends.plugins import Adapter, find_adapter
before = set(sys.modules)
if reference:
    module, _, path = reference.partition(":")
    plugin = importlib.import_module(module)
    for part in filter(None, path.removesuffix("()").split(".")):
        plugin = getattr(plugin, part)
    adapter = Adapter(plugin() if path.endswith("()") else plugin, name)
else:
    adapter = find_adapter(name)
print(json.dumps({"requires": adapter.info.requires, "loaded": sorted(set(sys.modules) - before)}))
"""


@check("discovery.loads_by_name")
def loads_by_name(ctx: Context) -> None:
    """The adapter has the name that its target uses, and is for this version of the adapter API.

    Users name it in TRACKING_BACKEND. If this fails, compare the name of the entry point, `AdapterInfo.name` and
    the harness's target; and mark both hooks with `@tracking_core.hookimpl`.
    """
    name = parse_target(ctx.harness.target).name
    info: Any = ctx.info
    ctx.require(isinstance(info, AdapterInfo), f"tracking_adapter() returned {type(info).__name__}, not AdapterInfo")
    ctx.require(info.name == name, f"the target says {name!r}, the adapter calls itself {info.name!r}")
    ctx.require(info.api_version == API_VERSION, f"api_version is {info.api_version}, expected {API_VERSION}")


@check("discovery.info_is_true")
def info_is_true(ctx: Context) -> None:
    """The fields of `AdapterInfo` are well-formed, and every declared capability has its method.

    Core and users rely on it: a declared capability without a method would lose its records. If this fails, correct the
    field that the message names, or add the method.
    """
    info: Any = ctx.info
    ctx.require(info.precision in {"float64", "float32"}, f"precision is {info.precision!r}")
    ctx.require(isinstance(info.guarantee, str) and info.guarantee, "guarantee is empty; describe it in words")
    for option, text in (info.options or {}).items():
        ctx.require(isinstance(text, str) and text, f"the option {option!r} has no line of help")
    for module in info.requires:
        ctx.require(isinstance(module, str) and module.strip(), f"requires holds {module!r}, expected module names")
    declared = info.capabilities
    with ctx.tracker(ctx.new_run()) as tracker:
        for capability in sorted(declared or ()):
            method = CORE_CAPABILITIES.get(capability) or OPTIONAL_CAPABILITIES.get(capability, (None, None))[1]
            if method is not None:
                ctx.require(
                    callable(getattr(tracker, method, None)),
                    f"the capability {capability!r} is declared, but {type(tracker).__name__} has no {method}()",
                )


@check("discovery.imports_lazily")
def imports_lazily(ctx: Context) -> None:
    """Loading the adapter and reading its description imports neither its requirements nor an array framework.

    Every `tracking backends`, and every run on another backend, would pay for it. Checked in a fresh interpreter.
    If this fails, move the import into `open_tracker`, or into a module that is imported there.
    """
    name, reference = parse_target(ctx.harness.target).name, ctx.harness.plugin_reference()
    ctx.require(
        reference is None or not reference.startswith("__main__"),
        "the adapter is defined in __main__, where no other interpreter finds it; move it into a module",
    )
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, json.dumps(sys.path), name, reference or ""],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=ctx.harness.check_limit,
    )
    ctx.require(
        done.returncode == 0,
        f"a fresh interpreter could not load {reference or name!r}: {done.stderr.strip()[-800:]}",
    )
    found = json.loads(done.stdout.splitlines()[-1])
    loaded = set(found["loaded"])
    eager = sorted(module for module in {*found["requires"], *_FRAMEWORKS} if module in loaded)
    ctx.require(not eager, f"loading the adapter imported {', '.join(eager)}; import it in open_tracker")


@check("discovery.unknown_option_refused")
def unknown_option_refused(ctx: Context) -> None:
    """An option that the adapter does not declare is refused before anything is opened; the harness's own is not.

    A misspelt option that is silently ignored is hard to find. If this fails, list every option that `open_tracker`
    reads in `AdapterInfo.options`.
    """
    if ctx.info.options is None:
        ctx.skip("the adapter declares no options, so any is passed on to it")
    try:
        ctx.adapter.check_target(ctx.harness.target_for(ctx.directory))
    except SettingsError as error:
        ctx.fail(f"the options of the harness's own target are refused: {error}")
    wrong = Target(ctx.info.name, options={"no-such-option": "1"})
    ctx.raises(SettingsError, "an unknown option", ctx.adapter.check_target, wrong)


@check("discovery.diagnose_answers")
def diagnose_answers(ctx: Context) -> None:
    """`diagnose`, if the adapter has it, returns findings and does not fail.

    `tracking doctor` shows them. If this fails, return a list of `Finding`, also for a backend that cannot be reached.
    """
    findings: list[Any] = ctx.adapter.diagnose(ctx.harness.target_for(ctx.directory))
    for finding in findings:
        ctx.require(isinstance(finding, Finding), f"diagnose() returned {type(finding).__name__}, expected Finding")
        ctx.require(finding.level in {"ok", "warning", "error"}, f"a finding has the level {finding.level!r}")
        ctx.require(not finding.message.startswith("the diagnosis of"), finding.message)
