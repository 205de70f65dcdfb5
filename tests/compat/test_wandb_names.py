"""W&B's names over a run: what they take, how steps are counted, and what is said of what is not there."""

from __future__ import annotations

import gc
import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

import tracking_core as tracking
import tracking_core.compat.wandb as wandb
from tests.support.programs import journal_events
from tracking_core.compat.wandb import session
from tracking_core.compat.wandb.images import grey_levels
from tracking_core.errors import InvalidValueError, RunExistsError


@pytest.fixture(autouse=True)
def _ended():
    yield
    for run in session._open_runs():
        run.finish(1)


def events(run, kind):
    """The events of a kind in the journal of a run, read by json alone."""
    run.tracking.flush(local=True)
    return [event for event in journal_events(Path(run.dir)) if event["kind"] == kind]


def scalars(run):
    return [(event["step"], event["values"]) for event in events(run, "scalars")]


def pixels(run, name="x"):
    """The pictures of a name, decoded by Pillow."""
    entries = [entry for event in events(run, "images") for entry in event["images"].get(name, ())]
    found = []
    for entry in entries:
        with Pillow.open(Path(run.dir, "media", entry["file"])) as image:
            found.append(np.asarray(image))
    return found


# ---------------------------------------------------------------- steps


def test_steps_are_counted_as_the_client_counts_them():
    run = wandb.init()
    wandb.log({"a": 1})
    wandb.log({"a": 2}, commit=False)
    wandb.log({"b": 3})
    wandb.log({"a": 4}, step=10)
    wandb.log({"b": 5}, step=np.int64(10))
    assert run.step == 10
    wandb.log({"a": 6})
    wandb.log({"a": 7}, step=12, commit=True)
    assert run.step == 13
    assert [(step, *values.values()) for step, values in scalars(run)] == [
        (0, 1), (1, 2), (1, 3), (10, 4), (10, 5), (10, 6), (12, 7)
    ]  # fmt: skip


def test_a_step_that_goes_back_is_recorded_where_it_belongs():
    run = wandb.init()
    wandb.log({"train": 1}, step=100)
    wandb.log({"val": 2}, step=1)
    assert scalars(run) == [(100, {"train": 1}), (1, {"val": 2})]
    assert run.step == 100


def test_a_resumed_run_counts_on():
    with wandb.init(id="r") as run:
        run.log({"a": 1}, step=4)
    run = wandb.init(id="r", resume="must")
    assert run.step == 5
    wandb.log({"a": 2})
    assert [step for step, _ in scalars(run)] == [4, 5]


def test_nested_mappings_are_joined():
    run = wandb.init()
    wandb.log(
        {"val": {"loss": 1, "table": wandb.Table(columns=["a"], data=[[1]]), "inner": {"h": wandb.Histogram([1])}}}
    )
    assert scalars(run) == [(0, {"val/loss": 1})]
    assert [event["name"] for event in events(run, "table") + events(run, "histogram")] == ["val/table", "val/inner/h"]


# ---------------------------------------------------------------- the run


def test_the_run_says_what_it_is():
    run = wandb.init(
        project="p", name="n", id="i", notes="words", tags=["t"], group="g", job_type="train", dir="elsewhere",
        config=Namespace(lr=0.1),
    )  # fmt: skip
    assert wandb.run is run
    assert (run.project, run.name, run.id, run.tags, run.step, run.url) == ("p", "n", "i", ("t",), 0, None)
    assert (run.group, run.job_type, run.notes) == ("g", "train", "words")
    assert Path(run.dir) == Path("elsewhere/p/i").absolute()
    facts = json.loads(Path(run.dir, "run.json").read_text())
    assert (facts["group"], facts["job_type"], facts["notes"], facts["config"]) == ("g", "train", "words", {"lr": 0.1})
    assert tracking.current_run() is run.tracking
    wandb.finish()
    assert wandb.run is None
    assert tracking.open_store("elsewhere").run("i").status == "finished"
    wandb.finish()


def test_a_run_ends_as_its_program_does():
    with pytest.raises(ValueError, match="no"), wandb.init(id="with"):
        raise ValueError("no")
    wandb.init(id="code")
    wandb.finish(exit_code=3)
    assert [tracking.open_store().run(name).status for name in ("with", "code")] == ["failed", "failed"]


def test_the_configuration_is_read_and_changed_by_item_attribute_and_update():
    run = wandb.init(config={"lr": 0.1, "model": {"depth": 2}})
    wandb.config.batch = 32
    wandb.config["seed"] = 1
    wandb.config.update({"lr": 0.2, "model": {"width": 8}}, allow_val_change=True)
    wandb.config.setdefaults({"lr": 9, "new": 1})
    wanted = {"lr": 0.2, "model": {"depth": 2, "width": 8}, "batch": 32, "seed": 1, "new": 1}
    assert wandb.config.as_dict() == dict(run.config) == wanted
    assert (wandb.config.lr, wandb.config["batch"], wandb.config.get("none", 7), "seed" in wandb.config) == (
        0.2,
        32,
        7,
        True,
    )
    with pytest.raises(AttributeError, match="wandb.config has no 'lrr'"):
        _ = wandb.config.lrr
    wandb.finish()
    assert tracking.open_store().run(run.id).config == wanted


def test_the_summary_is_the_last_values_and_what_was_set():
    run = wandb.init()
    wandb.log({"loss": 2.0})
    wandb.log({"loss": 1.0})
    wandb.summary["best"] = 0.5
    run.summary.update({"epochs": 3})
    assert dict(wandb.summary) == {"loss": 1.0, "best": 0.5, "epochs": 3}
    assert [event["summary"] for event in events(run, "summary")] == [{"best": 0.5}, {"epochs": 3}]


def test_a_second_init(troubles):
    first = wandb.init(config={"lr": 1})
    assert wandb.init(config={"lr": 2}) is first
    assert wandb.init(reinit=False) is first
    assert first.config.lr == 1
    assert "still open, and is returned as it is" in troubles[0][1]
    other = wandb.init(reinit="create_new")
    assert (other is not first, wandb.run is first, other.is_open, first.is_open) == (True, True, True, True)
    second = wandb.init(reinit="finish_previous")
    assert (first.is_open, other.is_open, wandb.run is second) == (False, False, True)
    third = wandb.init(reinit=True)
    assert (second.is_open, wandb.run is third) == (False, True)
    # A run that was ended below counts as ended.
    third.tracking.finish()
    assert wandb.run is None
    assert wandb.init() is not third


def test_an_identity_that_is_taken():
    wandb.init(id="r")
    wandb.finish()
    with pytest.raises(RunExistsError):
        wandb.init(id="r")
    assert wandb.run is None
    assert wandb.init(id="r", resume=True).id == "r"


def test_disabled_records_nothing(tmp_path):
    run = wandb.init(mode="disabled", config={"lr": 1})
    wandb.log({"a": 1, "x": wandb.Image(np.zeros((2, 2)))})
    wandb.log_artifact(__file__, type="code")
    assert (wandb.config.lr, dict(wandb.summary), run.step) == (1, {}, 1)
    wandb.finish()
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- what is said


def test_calls_before_init():
    for use in (
        lambda: wandb.log({"a": 1}),
        lambda: wandb.log_artifact("x"),
        lambda: wandb.config.lr,
        lambda: wandb.config["lr"],
        lambda: wandb.config.update({}),
        lambda: setattr(wandb.config, "lr", 1),
        lambda: wandb.summary.__setitem__("best", 1),
    ):
        with pytest.raises(wandb.Error, match=r"You must call wandb\.init\(\) before wandb\."):
            use()
    assert wandb.run is None


@pytest.mark.parametrize(
    ("owner", "name", "says"),
    [
        (lambda: wandb, "sweep", "run.native"),
        (lambda: wandb, "Video", "tracking_core.Video"),
        (lambda: wandb, "use_artifact", "tracking.use_artifact"),
        (lambda: wandb.init(), "watch", "run.native"),
        (lambda: wandb.Artifact("a", "file"), "download", "add_file"),
        (lambda: wandb.Table(columns=["a"]), "add_column", "add_data"),
    ],
)
def test_names_that_are_not_there_say_what_is(owner, name, says):
    thing = owner()
    with pytest.raises(AttributeError, match=f"has no '{name}'") as caught:
        getattr(thing, name)
    assert says in str(caught.value)
    assert not hasattr(thing, name)


def test_arguments_that_change_nothing_are_said_once(troubles, caplog, monkeypatch):
    monkeypatch.setattr("tracking_core.compat.wandb.missing._troubles", tracking_problems())
    for _ in range(2):
        wandb.init(entity="team", save_code=True, settings={"quiet": True}, tensorboard=None)
        wandb.finish()
    said = [record.getMessage() for record in caplog.records]
    assert [message.partition(" is ignored")[0].rpartition(" ")[2] for message in said] == [
        "entity",
        "settings",
        "save_code",
    ]
    assert "wandb://ENTITY/PROJECT" in said[0]


def test_offline_is_left_to_the_target_and_said_where_it_matters(troubles, monkeypatch):
    wandb.init(mode="offline")
    wandb.finish()
    assert troubles == []
    monkeypatch.setenv("TRACKING_BACKEND", "wandb")
    session._say_ignored(None, "offline", {})
    monkeypatch.setenv("TRACKING_BACKEND", "local,wandb:?mode=offline")
    session._say_ignored(None, "offline", {})
    assert [message for _, message, _ in troubles] == [
        "wandb.init: mode='offline' is ignored: write TRACKING_BACKEND=wandb:?mode=offline to stay offline"
    ]


def tracking_problems():
    from tracking_core.base.problems import Troubles

    return Troubles("compat.wandb")


# ---------------------------------------------------------------- images


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        (np.array([[0.0, 0.5, 1.0]]), [0, 128, 255]),
        (np.array([[0.0, 1.004]]), [0, 255]),
        (np.array([[-1.0, 0.0, 1.0]]), [0, 128, 255]),
        (np.array([[0.0, 127.4, 255.0]], np.float32), [0, 127, 255]),
        (np.array([[0.0, 500.0, 1000.0]]), [0, 128, 255]),
        (np.array([[np.nan, 0.5, np.inf]]), [0, 128, 0]),
        (np.array([[np.nan, np.inf]]), [0, 0]),
        (np.array([[-1e308, 1e308]]), [0, 255]),
        (np.array([[7.5e9, 7.5e9]]), [0, 0]),
        (np.array([[0, 7, 255]], np.int64), [0, 7, 255]),
        (np.array([[-10, 0, 10]], np.int32), [0, 128, 255]),
        (np.array([[0, 7, 255]], np.uint8), [0, 7, 255]),
        (np.array([[True, False]]), [255, 0]),
    ],
)
def test_pixels_of_any_range_become_grey_levels(values, levels):
    assert grey_levels(values)[0].tolist() == levels
    run = wandb.init()
    wandb.log({"x": wandb.Image(values)})
    assert pixels(run)[0][0].tolist() == levels


@pytest.mark.parametrize(
    ("shape", "stored"),
    [
        ((5, 4), (5, 4)),
        ((5, 4, 3), (5, 4, 3)),
        ((3, 5, 6), (5, 6, 3)),
        ((1, 5, 4), (5, 4)),
        ((5, 4, 1), (5, 4)),
        ((1, 5, 4, 3), (5, 4, 3)),
    ],
)
def test_channels_may_come_first_or_last(shape, stored):
    array = np.linspace(0, 1, int(np.prod(shape))).reshape(shape)
    run = wandb.init()
    wandb.log({"x": wandb.Image(array)})
    assert pixels(run)[0].shape == stored


def test_an_array_of_a_device_is_read_when_it_is_recorded(monkeypatch):
    import jax.numpy as jnp

    values = np.array([[-1.0, 0.0, 1.0]], np.float32)
    monkeypatch.setattr(
        "tracking_core.compat.wandb.images._pictures", lambda *_: pytest.fail("read by the constructor")
    )
    image = wandb.Image(jnp.asarray(values), caption="there")
    monkeypatch.undo()
    run = wandb.init()
    wandb.log({"x": image, "y": [wandb.Image(jnp.ones((3, 5, 6))), wandb.Image(values)]})
    assert pixels(run)[0][0].tolist() == [0, 128, 255]
    assert [one.shape for one in pixels(run, "y")] == [(5, 6, 3), (1, 3)]
    [event] = [event for event in events(run, "images") if "x" in event["images"]]
    assert event["images"]["x"][0]["caption"] == "there"


def test_delivered_inline_it_is_read_by_the_call(monkeypatch):
    import jax.numpy as jnp

    monkeypatch.setenv("TRACKING_DELIVERY", "inline")
    run = wandb.init()
    wandb.log({"x": wandb.Image(jnp.asarray([[-1.0, 0.0, 1.0]]))})
    assert pixels(run)[0][0].tolist() == [0, 128, 255]


def test_pictures_of_other_libraries_and_files(tmp_path):
    from matplotlib.figure import Figure

    picture = Pillow.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    picture.save(tmp_path / "one.png")
    figure = Figure(figsize=(1, 1))
    axes = figure.subplots()
    images = [wandb.Image(one) for one in (picture, str(tmp_path / "one.png"), tmp_path / "one.png")]
    # What was given may be gone by now.
    picture.putpixel((0, 0), 200)
    (tmp_path / "one.png").unlink()
    run = wandb.init()
    wandb.log({"x": images, "plot": [wandb.Image(figure), wandb.Image(axes)], "rgb": wandb.Image(picture, mode="RGB")})
    assert [one.tolist() for one in pixels(run)] == [np.arange(12).reshape(3, 4).tolist()] * 3
    drawn, again = pixels(run, "plot")
    assert drawn.shape[2] == 4
    assert len(np.unique(drawn)) > 10, "there are axes on it"
    assert np.array_equal(drawn, again)
    assert pixels(run, "rgb")[0].shape == (3, 4, 3)


@pytest.mark.parametrize("data", ["nowhere.png", np.zeros((2,) * 5), np.zeros(3), object(), None, np.zeros((0, 4))])
def test_what_is_no_picture_is_dropped_and_nothing_else(data, troubles):
    run = wandb.init()
    wandb.log({"x": wandb.Image(data), "y": wandb.Image(np.zeros((2, 2))), "a": 1})
    assert scalars(run) == [(0, {"a": 1})]
    assert len(pixels(run, "y")) == 1
    assert pixels(run) == []
    assert [reason for reason, _, _ in troubles] == ["invalid"]
    assert run.tracking.health.dropped == {"invalid": 1}


# ---------------------------------------------------------------- histograms, tables, artifacts


def test_histograms():
    import jax.numpy as jnp

    values = np.array([0.0, 1.0, 1.0, 4.0])
    made = wandb.Histogram(values, num_bins=4)
    values[:] = 9
    run = wandb.init()
    ready = wandb.Histogram(np_histogram=np.histogram([1.0, 2.0, 2.0], bins=2))
    wandb.log({"h": made, "ready": ready, "device": wandb.Histogram(jnp.arange(8.0), num_bins=2)})
    found = {event["name"]: (event["counts"], event["edges"]) for event in events(run, "histogram")}
    assert found == {
        "h": ([1, 2, 0, 1], [0.0, 1.0, 2.0, 3.0, 4.0]),
        "ready": ([1, 2], [1.0, 1.5, 2.0]),
        "device": ([4, 4], [0.0, 3.5, 7.0]),
    }
    assert (made.histogram, ready.bins) == ([1, 2, 0, 1], [1.0, 1.5, 2.0])


@pytest.mark.parametrize(
    "made", [lambda: wandb.Histogram(["a"]), lambda: wandb.Histogram(), lambda: wandb.Histogram(np_histogram=(1,))]
)
def test_what_is_no_distribution_is_dropped(made, troubles):
    run = wandb.init()
    wandb.log({"h": made(), "a": 1})
    assert (events(run, "histogram"), scalars(run)) == ([], [(0, {"a": 1})])
    assert [reason for reason, _, _ in troubles] == ["invalid"]


def test_tables(troubles):
    import jax.numpy as jnp

    table = wandb.Table(columns=["digit", "score", "seen"])
    table.add_data(3, jnp.float32(0.5), wandb.Image(np.zeros((2, 2)), caption="a three"))
    run = wandb.init()
    wandb.log({"t": table, "empty": wandb.Table(columns=["a"])})
    table.add_data(4, np.int64(1), None)
    wandb.log({"t": table, "default": wandb.Table(data=[["in", "out", "wanted"]])})
    found = [(event["name"], content(run, event)) for event in events(run, "table")]
    columns = ["digit", "score", "seen"]
    rows = [[3, 0.5, "(image: a three)"], [4, 1, None]]
    assert sorted(found, key=str) == sorted(
        [
            ("t", {"columns": columns, "rows": rows[:1]}),
            ("empty", {"columns": ["a"], "rows": []}),
            ("t", {"columns": columns, "rows": rows}),
            ("default", {"columns": ["Input", "Output", "Expected"], "rows": [["in", "out", "wanted"]]}),
        ],
        key=str,
    )
    assert {message.partition(":")[0] for _, message, _ in troubles} == {"wandb.Table"}


def content(run, event):
    return json.loads(Path(run.dir, "media", event["file"]).read_text())


@pytest.mark.parametrize(
    "made",
    [
        lambda: wandb.Table(columns=["a"], data=[[1, 2]]),
        lambda: wandb.Table(columns=["a", "a"]),
        lambda: wandb.Table(columns=["a"]).add_data(),
    ],
)
def test_a_row_that_does_not_fit_is_refused(made):
    with pytest.raises(InvalidValueError, match=r"wandb\.Table"):
        made()


def test_artifacts(tmp_path):
    (tmp_path / "d" / "deep").mkdir(parents=True)
    (tmp_path / "d" / "a.txt").write_text("a")
    (tmp_path / "d" / "deep" / "b.txt").write_text("b")
    artifact = wandb.Artifact("model", type="model", description="words", metadata={"n": 1})
    artifact.add_dir(tmp_path / "d", name="inside")
    artifact.add_file(str(tmp_path / "d" / "a.txt"))
    artifact.add_file(tmp_path / "d" / "a.txt", name="other.txt")
    with artifact.new_file("new.bin", mode="wb") as file:
        file.write(b"new")
    (tmp_path / "d" / "a.txt").write_text("changed")
    run = wandb.init()
    assert artifact.version is None
    assert wandb.log_artifact(artifact, aliases=["best"]) is artifact.wait()
    assert (artifact.version, artifact.aliases) == ("v0", ["best", "latest"])
    version = tracking.open_store().run(run.id).artifacts()[0]
    assert {name: version.path(name).read_text() for name in version.files} == {
        "inside/a.txt": "a", "inside/deep/b.txt": "b", "a.txt": "a", "other.txt": "a", "new.bin": "new"
    }  # fmt: skip
    assert version.metadata == {"n": 1, "description": "words"}
    folder = artifact._folder
    del artifact
    gc.collect()
    assert not folder.exists()


def test_a_path_is_an_artifact_as_well(tmp_path):
    (tmp_path / "w.bin").write_bytes(b"w")
    run = wandb.init()
    made = wandb.log_artifact(tmp_path / "w.bin", type="model", aliases="best")
    assert (made.name, made.type, made.version) == (f"run-{run.id}-w.bin", "model", "v0")
    [event] = events(run, "artifact")
    assert (event["aliases"], list(event["files"])) == (["best"], ["w.bin"])


def test_an_artifact_that_cannot_be_stored_is_said(troubles, tmp_path):
    with pytest.raises(InvalidValueError, match="no file"):
        wandb.Artifact("a", "file").add_file(tmp_path / "missing")
    with pytest.raises(InvalidValueError, match="leads out"):
        wandb.Artifact("a", "file").add_file(__file__, name="../a")
    run = wandb.init()
    assert wandb.log_artifact(tmp_path / "missing").version is None
    assert wandb.log_artifact(wandb.Artifact("empty", "file")).version is None
    assert [reason for reason, _, _ in troubles] == ["invalid", "invalid"]
    assert events(run, "artifact") == []


def test_what_is_no_mapping_is_said(troubles):
    wandb.init()
    wandb.log([1, 2])
    assert "expected a mapping" in troubles[0][1]
