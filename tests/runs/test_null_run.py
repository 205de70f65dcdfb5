"""`TRACKING_BACKEND=none`: every public name of a run works, and records nothing."""

from __future__ import annotations

import inspect

import pytest

import tracking_core as tracking
from tracking_core.runs.health import Health
from tracking_core.runs.run import Run

#: What each method is called with, besides what has a default; one that is added later must be named here.
ARGUMENTS = {
    "log": ({"loss": 1.0},),
    "log_scalars": ({"loss": 1.0},),
    "log_images": ({"i": object()},),
    "log_histogram": ("h", object()),
    "log_table": ("t", object()),
    "log_video": ("v", object()),
    "log_audio": ("a", object()),
    "log_text": ("t", "text"),
    "log_figure": ("f", object()),
    "log_html": ("h", "<b>h</b>"),
    "log_config": ({"model": {"width": 3}},),
    "log_summary": ({"best": 1.0},),
    "log_alert": ("title",),
    "log_artifact": (object(),),
    "use_artifact": ("name:v1",),
    "scope": ("train",),
    "every": (10,),
    "url": (),
    "flush": (),
    "finish": (),
    "await_end": (),
}
#: Called by what starts runs, and with what only that has.
INTERNAL = {"moved"}
PUBLIC = sorted(name for name in dir(Run) if not name.startswith("_"))


@pytest.fixture
def run():
    run = tracking.start_run("p", "n", backends="none", config={"model": {"depth": 1}}, tags=["a"], group="g")
    yield run
    run.finish()


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_works(run, tmp_path, name):
    value = getattr(run, name)
    if not callable(value):
        assert value is not None
    elif name == "native":
        with pytest.raises(tracking.SettingsError, match="there is no open target"):
            value("wandb")
    elif name not in INTERNAL:
        value(*ARGUMENTS[name])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in PUBLIC if name.startswith("log_") and name in ARGUMENTS])
def test_every_keyword_of_a_run_is_taken(run, tmp_path, name):
    keywords = {
        one.name: one.default
        for one in inspect.signature(getattr(Run, name)).parameters.values()
        if one.kind is one.KEYWORD_ONLY
    }
    getattr(run, name)(*ARGUMENTS[name], **keywords)
    assert list(tmp_path.iterdir()) == []


def test_it_is_what_it_says_it_is(run):
    assert isinstance(run, tracking.Run)
    assert isinstance(run, tracking.NullTracker)
    assert (run.project, run.name, run.tags, run.status, run.url()) == ("p", "n", ("a",), "running", None)
    assert not run.should_stop
    run.log_config({"model": {"width": 2}, "lr": 0.1})
    assert run.config == {"model": {"depth": 1, "width": 2}, "lr": 0.1}
    assert run.health == Health(durability="none")
    assert run.log_artifact(object(), name="w", type="model") == tracking.ArtifactRef("w", "model")
    assert "running" in repr(run)
    with run:
        pass
    assert (run.status, tracking.current_run()) == ("finished", None)


def test_its_end_is_checked_as_that_of_any_run(run, tmp_path):
    with tracking.start_run("p", root=tmp_path / "runs") as other:
        for one in (run, other):
            with pytest.raises(tracking.SettingsError, match="status must be one of finished, failed"):
                one.finish("nonsense")
    assert run.status == "running"


def test_wrappers_go_around_it(run, tmp_path):
    run.scope("a").log_scalars({"x": 1.0}, step=1)
    run.every(2).log_images({"x": object()}, step=2)
    assert list(tmp_path.iterdir()) == []
