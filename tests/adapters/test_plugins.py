"""Adapters are found by entry point, one at a time; what is wrong with one is said, and concerns that one alone.

The distributions are real as far as Python can tell: metadata and modules in a directory on the path of a process.
"""

from __future__ import annotations

import json
import textwrap

import pytest

import tracking_core as tracking
from tests.support.distributions import good, install
from tests.support.programs import run
from tracking_core import AdapterInfo, BrokenAdapterError, Finding, SettingsError, Target, UnknownAdapterError
from tracking_core.backends.hooks import hookspec
from tracking_core.backends.plugins import Adapter, candidates, find_adapter
from tracking_core.base.registry import Registry

ASK = """
import json
from tracking_core.backends.plugins import candidates, find_adapter

found = {}
for name in NAMES:
    try:
        adapter = find_adapter(name, origin="HERE")
        found[name] = ["ok", adapter.info.description]
    except BaseException as error:
        found[name] = [type(error).__name__, str(error)]
print(json.dumps({"found": found, "candidates": sorted(candidates())}))
"""


def ask(tmp_path, *sites, names=(), before=""):
    """What `find_adapter` says of each name, in a process that has these directories on its path."""
    code = f"{before}\nNAMES = {list(names)!r}\n{ASK}"
    out, _ = run(code, tmp_path, PYTHONPATH=":".join(map(str, sites)))
    return json.loads(out)


BROKEN = {
    "noimport": ("import no_such_module_anywhere", "cannot be imported: ModuleNotFoundError: No module named"),
    "syntax": ("def f(:\n", "cannot be imported: SyntaxError"),
    "exits": ("import sys; sys.exit(3)", "cannot be imported: SystemExit: 3"),
    "raises": ("class E(BaseException): pass\nraise E('odd')", "cannot be imported: E: odd"),
    "misspelt": (
        good("misspelt") + "\n@tracking.hookimpl\ndef open_traker(target, run): ...\n",
        "does not fit the hooks: unknown hook 'open_traker'",
    ),
    "misnamed": (
        good("misnamed").replace("open_tracker(target, run)", "open_tracker(goal, run)"),
        "does not fit the hooks: ",
    ),
    "unmarked": (
        good("unmarked").replace("@tracking.hookimpl\ndef open_tracker", "def open_tracker"),
        "has no hook 'open_tracker'; mark the function with @tracking_core.hookimpl",
    ),
    "empty": ("", "has no hook 'tracking_adapter'"),
    "wrongtype": (
        good("wrongtype").replace("return tracking.AdapterInfo(", "return dict("),
        "must return tracking_core.AdapterInfo, got dict",
    ),
    "nothing": (good("nothing").replace("return tracking.AdapterInfo(", "dict("), "got NoneType"),
    "infofails": (
        good("infofails", description="1 / 0"),
        "failed to describe itself: ZeroDivisionError",
    ),
    "infoexits": (
        good("infoexits", description="exit(4)"),
        "failed to describe itself: SystemExit: 4",
    ),
    "othername": (good("another"), "calls itself 'another'"),
    "capable": (
        good("capable", capabilities='("scalars", "tabels")'),
        "names the unknown capability 'tabels': did you mean 'tables'?",
    ),
    "listed": (good("listed", options='["indent"]'), "AdapterInfo.options must map each option to a line of help"),
    "onestring": (good("onestring", requires='"numpy"'), "AdapterInfo.requires must be a tuple of module names"),
    "noobject": ("x = 1", "cannot be imported: AttributeError"),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Many broken adapters beside two good ones, and what is said of each."""
    place = tmp_path_factory.mktemp("broken")
    site = place / "site"
    for name, (source, _) in BROKEN.items():
        value = f"{name}_module:missing" if name == "noobject" else f"{name}_module"
        install(site, f"{name}-dist", "2.1", {name: value}, {f"{name}_module": source})
    for name, version in {"newer": 99, "older": 0}.items():
        source = good(name).replace("api_version=1", f"api_version={version}")
        install(site, f"{name}-dist", "0.3", {name: f"{name}_module"}, {f"{name}_module": source})
    install(site, "good-dist", "1.2", {"good": "good_module"}, {"good_module": good("good")})
    install(site, "shouting-dist", "1.0", {"LOUD": "loud_module"}, {"loud_module": good("loud")})
    names = [*BROKEN, "newer", "older", "good", "loud", "local", "gooood", "none", "tensorboard"]
    return ask(place, site, names=names)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_adapter_is_named_with_its_distribution_and_what_is_wrong(broken, name):
    kind, message = broken["found"][name]
    assert kind == "BrokenAdapterError"
    assert message.startswith(f"the adapter {name!r} of {name}-dist 2.1")
    assert BROKEN[name][1] in message


def test_broken_adapters_do_not_keep_others_from_being_found(broken):
    assert broken["found"]["good"] == ["ok", "one line a call"]
    assert broken["found"]["loud"] == ["ok", "one line a call"]
    assert [broken["found"][name][0] for name in ("local", "none", "tensorboard")] == ["ok"] * 3
    assert set(broken["candidates"]) >= {*BROKEN, "good", "local", "wandb"}


def test_another_version_of_the_api_is_an_error_with_both_versions_and_who_must_change(broken):
    kind, message = broken["found"]["newer"]
    assert kind == "AdapterVersionError"
    assert "'newer' of newer-dist 0.3 was built for adapter API 99, this is adapter API 1" in message
    assert message.endswith("upgrade tracking-core")
    kind, message = broken["found"]["older"]
    assert kind == "AdapterVersionError"
    assert message.endswith("built for adapter API 0, this is adapter API 1; upgrade the adapter")


def test_an_unknown_name_is_an_error_with_what_was_meant_and_what_there_is(broken):
    kind, message = broken["found"]["gooood"]
    assert kind == "UnknownAdapterError"
    assert message.startswith("HERE: no backend 'gooood' is installed: did you mean 'good'?; the installed ones are ")
    assert all(name in message for name in ("good", "local", "none", "tensorboard", "wandb"))


def test_two_distributions_that_claim_one_name_are_an_error_that_names_both(tmp_path):
    site = tmp_path / "site"
    install(site, "first-dist", "1.0", {"csv": "first_module"}, {"first_module": good("csv")})
    install(site, "second-dist", "2.0", {"CSV": "second_module"}, {"second_module": good("csv")})
    install(site, "imposter", "3.0", {"tensorboard": "third_module"}, {"third_module": good("tensorboard")})
    found = ask(tmp_path, site, names=["csv", "tensorboard", "local"])["found"]
    assert found["csv"][0] == "AdapterConflictError"
    assert "HERE: the backend 'csv' is provided by " in found["csv"][1]
    assert "first-dist 1.0" in found["csv"][1]
    assert "second-dist 2.0" in found["csv"][1]
    assert found["tensorboard"][0] == "AdapterConflictError"
    assert "imposter 3.0" in found["tensorboard"][1]
    assert "tracking-core" in found["tensorboard"][1]
    assert found["local"][0] == "ok"


def test_one_distribution_that_is_on_the_path_twice_is_no_conflict(tmp_path):
    one = install(tmp_path / "one", "my-dist", "2.0", {"mine": "mine_module"}, {"mine_module": good("mine")})
    two = install(tmp_path / "two", "my_dist", "1.0", {"mine": "old_module"}, {"old_module": "raise OSError"})
    assert ask(tmp_path, one, two, names=["mine"])["found"]["mine"] == ["ok", "one line a call"]
    # An editable install and the working directory: the same files are found twice.
    assert ask(tmp_path, one, one, names=["mine"])["found"]["mine"][0] == "ok"


def test_a_distribution_with_damaged_metadata_does_not_hide_the_others(tmp_path):
    site = tmp_path / "site"
    install(site, "good-dist", "1.0", {"good": "good_module"}, {"good_module": good("good")})
    install(site, "bare-dist", "1.0", {"bare": "bare_module"}, {"bare_module": good("bare")}, metadata=False)
    install(site, "garbled-dist", "1.0", "[tracking_core.adapters]\nthis is no entry\n")
    found = ask(tmp_path, site, names=["good", "bare", "local"])
    assert [found["found"][name][0] for name in ("good", "bare", "local")] == ["ok"] * 3
    (site / "garbled_dist-1.0.dist-info" / "entry_points.txt").unlink()
    assert ask(tmp_path, site, names=["bare"])["found"]["bare"][0] == "ok"


def test_a_third_party_adapter_records_a_run(tmp_path):
    site = install(tmp_path / "site", "good-dist", "1.0", {"good": "good_module"}, {"good_module": good("good")})
    code = """
    import tracking_core as tracking
    with tracking.start_run() as run:
        run.log_scalars({"loss": 0.5}, step=3, step_axis="epoch")
    """
    run(code, tmp_path, PYTHONPATH=str(site), TRACKING_BACKEND="good:./lines.json")
    assert [json.loads(line) for line in (tmp_path / "lines.json").read_text().splitlines()] == [
        ["epoch", 3, {"loss": 0.5}]
    ]


# ---------------------------------------------------------------- laziness and missing packages

BLOCK = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.mark.parametrize(
    ("name", "package"), [("tensorboard", "tensorboardX"), ("tensorboard", "crc32c"), ("wandb", "wandb")]
)
def test_a_first_party_backend_whose_package_is_missing_says_how_to_install_it(tmp_path, name, package):
    code = """
    import tracking_core as tracking
    try:
        tracking.start_run()
    except tracking.MissingDependencyError as error:
        assert isinstance(error, ImportError) and isinstance(error, tracking.SettingsError)
        print(error)
    """
    block = BLOCK.replace("{BLOCKED}", repr({package}))
    out, _ = run(block + textwrap.dedent(code), tmp_path, TRACKING_BACKEND=name)
    assert out == (
        f"the backend {name!r} needs {package}, which is not installed: pip install 'tracking-core[{name}]'\n"
    )
    assert not (tmp_path / "tracking_runs").exists(), "nothing is begun that cannot be delivered"


@pytest.mark.system
@pytest.mark.parametrize(
    ("wanted", "own", "others"),
    [
        ("tensorboard:./tb", "tensorboardX", ("wandb", "tracking_wandb")),
        ("wandb?mode=disabled", "tracking_wandb", ("tensorboardX", "tracking_tensorboard")),
        ("local", "tracking_core.store", ("wandb", "tracking_wandb", "tensorboardX", "tracking_tensorboard")),
    ],
)
def test_asking_for_one_backend_imports_no_other(tmp_path, wanted, own, others):
    code = f"""
    import sys
    import tracking_core as tracking
    with tracking.start_run(backends={wanted!r}, delivery="thread", strict=True) as run:
        run.log_scalars({{"a": 1.0}}, step=0)
    assert {own!r} in sys.modules
    loaded = [name for name in {others!r} if name in sys.modules]
    assert not loaded, loaded
    """
    run(code, tmp_path, HOME=str(tmp_path), WANDB_MODE="disabled")


def test_looking_at_an_adapter_does_not_import_its_backend(tmp_path):
    code = """
    import sys
    from tracking_core.backends.plugins import candidates, find_adapter
    for name in ("local", "none", "tensorboard", "wandb"):
        adapter = find_adapter(name)
        assert adapter.name == name
        assert adapter.missing() == []
    assert not {"wandb", "tensorboardX", "jax", "torch"} & set(sys.modules)
    """
    run(code, tmp_path)


def test_the_first_party_adapters_come_through_the_entry_points():
    found = candidates()
    for name in ("local", "none", "tensorboard", "wandb"):
        [candidate] = found[name]
        assert candidate.distribution == "tracking-core"
        assert candidate.version == tracking.__version__
        assert find_adapter(name).candidate == candidate
        assert find_adapter(name) is find_adapter(name)


# ---------------------------------------------------------------- what an adapter does, as an object


class Plugin:
    """An adapter as an object; each test changes what it needs."""

    info = AdapterInfo("mine", 1, options={"mode": "how"}, requires=("no_such_module_anywhere",))
    opened = None
    found = ()

    @tracking.hookimpl
    def tracking_adapter(self):
        return self.info

    @tracking.hookimpl
    def open_tracker(self, target, run):
        return self.opened

    @tracking.hookimpl
    def diagnose(self, target):
        if isinstance(self.found, BaseException):
            raise self.found
        return self.found


def adapter(**attributes):
    return Adapter(type("Changed", (Plugin,), attributes)(), "mine")


def test_options_are_checked_before_packages():
    with pytest.raises(SettingsError, match=r"TRACKING_BACKEND: .* has no option 'mod': did you mean 'mode'\?"):
        adapter().check_target(Target("mine", options={"mod": "x"}))
    with pytest.raises(tracking.MissingDependencyError, match="pip install 'no_such_module_anywhere'"):
        adapter().check_target(Target("mine", options={"mode": "x"}))
    with pytest.raises(tracking.MissingDependencyError):
        adapter().open(Target("mine"), tracking.RunInfo("id", "name"))


def test_an_adapter_that_names_no_options_takes_any():
    adapter(info=AdapterInfo("mine", 1)).check_target(Target("mine", options={"whatever": "x"}))


@pytest.mark.parametrize("opened", [None, 3, object()])
def test_what_is_opened_must_be_a_tracker(opened):
    with pytest.raises(BrokenAdapterError, match="which has no method 'log_scalars'"):
        adapter(info=AdapterInfo("mine", 1), opened=opened).open(Target("mine"), tracking.RunInfo("id", "name"))


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (ValueError("odd"), "the diagnosis of 'mine' failed: ValueError: odd"),
        (SystemExit(2), "the diagnosis of 'mine' failed: SystemExit: 2"),
        (["a text"], "returned 'a text', which is not a tracking_core.Finding"),
        ([Finding("fatal", "x")], "level='fatal'"),
        (3, "the diagnosis of 'mine' failed: TypeError"),
    ],
)
def test_a_diagnosis_that_fails_is_a_finding(found, says):
    [finding] = adapter(found=found).diagnose(Target("mine"))
    assert finding.level == "error"
    assert says in finding.message


def test_a_diagnosis_is_passed_on_and_may_be_empty():
    findings = [Finding("ok", "a"), Finding("warning", "b", "c")]
    assert adapter(found=iter(findings)).diagnose(Target("mine")) == findings
    assert adapter(found=None).diagnose(Target("mine")) == []


def test_a_capability_counts_when_it_is_declared_and_there_is_a_method_for_it():
    declared = adapter(info=AdapterInfo("mine", 1, capabilities=frozenset({"scalars", "tables"})))
    undeclared = adapter(info=AdapterInfo("mine", 1))
    tracker = tracking.testing.FakeTracker()
    assert declared.supports(tracker, "scalars")
    assert declared.supports(tracker, "tables")
    assert not declared.supports(tracker, "video")
    assert undeclared.supports(tracker, "video")
    assert not undeclared.supports(object(), "video")


def test_a_key_that_was_pasted_where_a_name_belongs_is_not_shown():
    with pytest.raises(UnknownAdapterError) as caught:
        tracking.start_run(backends="hf_abcdefghijklmnop1234")
    assert "abcdefghijklmnop" not in str(caught.value)


class EngineSpec:
    @hookspec(firstresult=True)
    def make(self, seed):
        """Make one."""


def test_plugins_of_another_group_are_found_the_same_way(tmp_path, monkeypatch):
    code = "import tracking_core as tracking\n\n@tracking.hookimpl\ndef make(seed):\n    return seed + 1\n"
    entries = "[demo.engines]\nrandom = demo_engine\nempty = demo_empty\n"
    site = install(tmp_path / "site", "demo-engines", "2.0", entries, {"demo_engine": code, "demo_empty": ""})
    monkeypatch.syspath_prepend(site)
    engines = Registry(
        "demo.engines",
        EngineSpec,
        lambda plugin, name, candidate: engines.manager(plugin, name, candidate, ("make",)),
        kind="engine",
        asked="engine",
    )
    assert engines.candidates().keys() == {"random", "empty"}
    assert engines.find("random", origin="test").hook.make(seed=1) == 2
    assert engines.find("random", origin="test") is engines.find("random", origin="test")
    with pytest.raises(BrokenAdapterError, match=r"the engine 'empty' of demo-engines 2.0 has no hook 'make'"):
        engines.find("empty", origin="test")
    with pytest.raises(UnknownAdapterError, match=r"no engine 'randon' is installed: did you mean 'random'\?"):
        engines.find("randon", origin="test")
    none = Registry("demo.nothing", EngineSpec, lambda plugin, *_: plugin, kind="engine", asked="engine")
    with pytest.raises(UnknownAdapterError, match="installed ones are none$"):
        none.find("random", origin="test")
