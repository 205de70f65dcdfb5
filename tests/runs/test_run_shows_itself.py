"""What a run says of itself: configuration, summary, step and address while it goes on, and results at its end."""

from __future__ import annotations

import copy
import json
import math
import pickle
import sys
import threading
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tracking_core as tracking
from tracking_core.intake.results import MOST, MOST_WAITING, POINTS, Results
from tracking_core.runs.results import chosen, curve
from tracking_core.runs.results import lines as result_lines

# ---------------------------------------------------------------- configuration


def test_a_configuration_reads_by_attribute_and_by_key(tmp_path):
    config = {"lr": 0.1, "model": {"width": 64, "items": 3}, "sizes": [1, 2]}
    with tracking.start_run("p", root=tmp_path, config=config) as run:
        assert (run.config.lr, run.config["lr"], run.config.model.width) == (0.1, 0.1, 64)
        assert run.config["model"]["items"] == run.config.model["items"] == 3
        assert (run.config.get("none", 5), run.config.get("model").width) == (5, 64)
        run.log_config({"model": {"width": 128}, "late": True})
        assert (run.config.model.width, run.config.late) == (128, True)
        # Encoders and copies get ordinary dicts.
        assert json.loads(json.dumps(run.config))["model"] == {"width": 128, "items": 3}
        for other in (copy.deepcopy(run.config), pickle.loads(pickle.dumps(run.config)), dict(run.config)):
            assert type(other) is dict and other == run.config
    assert tracking.open_store(tmp_path).run(run.id).config == run.config


@pytest.mark.parametrize(
    "change",
    [
        lambda run: setattr(run.config, "lr", 2),
        lambda run: delattr(run.config, "lr"),
        lambda run: run.config.__setitem__("lr", 2),
        lambda run: run.config["model"].__setitem__("width", 2),
        lambda run: run.config.__delitem__("lr"),
        lambda run: run.config.update(lr=2),
        lambda run: run.config.pop("lr"),
        lambda run: run.config.setdefault("new", 2),
        lambda run: run.config.clear(),
        lambda run: setattr(run, "config", {}),
    ],
)
@pytest.mark.parametrize("backends", ["local", "none"])
def test_setting_says_what_changes_a_configuration(tmp_path, change, backends):
    config = {"lr": 0.1, "model": {"width": 64}}
    with tracking.start_run("p", root=tmp_path, config=config, backends=backends) as run:
        with pytest.raises((AttributeError, TypeError), match=r"run\.log_config"):
            change(run)
        assert run.config == config


def test_a_name_that_a_configuration_lacks_is_said_with_what_is_close(tmp_path):
    with tracking.start_run("p", root=tmp_path, config={"learning_rate": 1}) as run:
        with pytest.raises(AttributeError, match="no 'learning_rat': did you mean 'learning_rate'"):
            _ = run.config.learning_rat
        assert not hasattr(run.config, "other")


# ---------------------------------------------------------------- summary, step, resumed, group


def test_a_summary_has_last_values_and_what_was_set(tmp_path):
    with tracking.start_run("p", root=tmp_path, group="g") as run:
        assert (run.group, run.resumed, run.step, dict(run.summary)) == ("g", False, 0, {})
        for step in range(3):
            run.log_scalars({"loss": 1.0 / (step + 1), "big": 2**70, "flag": True}, step=step)
        run.log_scalars({"device": jnp.float32(2.5), "loss": jnp.float32(0.25)}, step=3)
        run.log_summary({"verdict": "fine"})
        run.flush(local=True)
        assert run.step == 4
        summary = dict(run.summary)
        assert summary["big"] == 2**70 and summary["flag"] is True
        with pytest.raises(TypeError):
            run.summary["loss"] = 1  # type: ignore[index]
    assert summary == {"loss": 0.25, "big": 2**70, "flag": True, "device": 2.5, "verdict": "fine"}
    # As the store has it, which reads the files.
    assert tracking.open_store(tmp_path).run(run.id).summary() == summary


def test_a_resumed_run_says_so_and_where_it_goes_on(tmp_path):
    for resumed, first in ((False, 0), (True, 3)):
        with tracking.start_run("p", root=tmp_path, run_id="r", resume="allow") as run:
            assert (run.resumed, run.step) == (resumed, first)
            for step in range(run.step, run.step + 3):
                run.log_scalars({"loss": 1.0}, step=step)
    with tracking.start_run("p", root=tmp_path, run_id="r", resume="must", resume_step=1) as run:
        assert (run.resumed, run.step) == (True, 2)


class _Client:
    """The key-value store of `jax.distributed`, for two processes in one."""

    def __init__(self):
        self.values, self.come = {}, threading.Event()

    def key_value_set(self, key, value):
        self.values[key] = value
        self.come.set()

    def blocking_key_value_get(self, key, timeout):
        assert self.come.wait(timeout / 1000)
        return self.values[key]


@pytest.mark.parametrize("chosen_id", [True, False])
def test_processes_that_do_not_record_know_where_the_run_goes_on(tmp_path, monkeypatch, chosen_id):
    """Otherwise one process would begin at step 3, another at 0, and their collectives would wait for each other."""
    from tracking_core.environment import hosts

    with tracking.start_run("p", root=tmp_path, run_id="r") as run:
        for step in range(3):
            run.log_scalars({"loss": 1.0}, step=step)
    client, rank = _Client(), [0]
    monkeypatch.setattr(hosts, "_distributed", lambda: (client, rank[0]))
    numbers = iter([7, 7])
    monkeypatch.setattr(hosts, "_starts", numbers)
    first = tracking.start_run("p", root=tmp_path, run_id="r", resume="must")
    rank[0] = 1
    keywords = {"run_id": "r", "resume": "must"} if chosen_id else {}
    with tracking.start_run("p", root=tmp_path, **keywords) as other:
        assert isinstance(other, tracking.NullTracker)
        assert (other.id, other.resumed, other.step) == ("r", True, 3) == (first.id, first.resumed, first.step)
    first.finish()


# ---------------------------------------------------------------- running aggregates


def test_results_are_those_of_all_values():
    rng = np.random.default_rng(0)
    values = rng.normal(size=5 * MOST_WAITING // 2)
    values[[3, 17]] = np.nan
    values[5000], values[6000] = np.inf, -np.inf
    results = Results()
    for step, value in enumerate(values.tolist()):
        results.add("step", step, {"loss": value, "acc": -value} if step % 3 else {"loss": value})
    by_name = {one.name: one for one in results.scalars()}
    loss, acc = by_name["loss"], by_name["acc"]
    assert (loss.count, loss.last, loss.last_step) == (len(values), values[-1], len(values) - 1)
    assert (loss.min, loss.min_step, loss.max, loss.max_step) == (-np.inf, 6000, np.inf, 5000)
    assert (loss.best, acc.best) == (loss.min, acc.max)
    assert len(loss.curve) <= POINTS
    # All of them were logged, in that order and evenly spaced.
    stride = len(values) // len(loss.curve)
    assert np.array_equal(loss.curve, values[:: 2 ** round(math.log2(stride))][: len(loss.curve)], equal_nan=True)


def test_odd_values_and_very_many_names_do_no_harm():
    results = Results()
    results.add("step", 0, {"huge": 10**400, "nan": math.nan})
    results.add("epoch", 1, {f"name {number}": number for number in range(3 * MOST)})
    results.add("epoch", 2, {"huge": -(10**400)})
    by_name = {one.name: one for one in results.scalars()}
    assert len(by_name) == MOST
    assert (by_name["huge"].max, by_name["huge"].min, by_name["huge"].axis) == (math.inf, -math.inf, "epoch")
    assert math.isnan(by_name["nan"].best)
    assert results.count == len(results.summary()) == 3 * MOST + 2
    assert results.summary()["huge"] == -(10**400)
    text = result_lines(results.scalars(), results.count)
    assert len(text) == 9 and text[-1] == f"and {3 * MOST - 6:,} other scalars"


def test_a_call_only_puts_its_values_aside(tmp_path, monkeypatch):
    """The aggregates are made on another thread, or by one call in thousands."""
    taken, looked = [], threading.Event()
    real = Results._take

    def take(self):
        taken.append(threading.current_thread())
        real(self)
        looked.set()

    monkeypatch.setattr(Results, "_take", take)
    monkeypatch.setattr("tracking_core.runs.housekeeping.TICK", 1000.0)
    with tracking.start_run("p", root=tmp_path) as run:
        # It looks once at the start.
        assert looked.wait(60)
        for step in range(MOST_WAITING - 1):
            run.log_scalars({"loss": 1.0}, step=step)
        assert threading.main_thread() not in taken
        run.log_scalars({"loss": 2.0}, step=step + 1)
        assert taken.count(threading.main_thread()) == 1
        assert run.summary["loss"] == 2.0


def test_results_of_device_values_are_taken_where_they_are_written(tmp_path, monkeypatch):
    """Not at the call, where they are not on the host yet."""
    added, real = [], Results.add
    monkeypatch.setattr("tracking_core.intake.scalars.read_ready", lambda named, values: None)
    monkeypatch.setattr(
        Results, "add", lambda self, *a: added.append((threading.current_thread(), a)) or real(self, *a)
    )
    with tracking.start_run("p", root=tmp_path) as run:
        run.log_scalars({"loss": jax.jit(lambda x: x * 2)(jnp.float32(1.0)), "host": 3}, step=jnp.int32(7))
        run.flush(local=True)
        assert dict(run.summary) == {"loss": 2.0, "host": 3}
    [(thread, (axis, step, _))] = added
    assert thread is not threading.main_thread()
    assert (axis, step) == ("step", 7)


def test_a_curve_is_small_and_shows_its_extremes():
    assert curve([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert curve([1.0, 1.0]) == curve([5.0, 5.0])
    assert curve([math.nan, 0.0, math.inf, 1.0]) == " ▁ █"
    assert curve([math.nan]) == curve([]) == ""
    assert curve([-1.7e308, 1.7e308]) == "▁█"
    assert len(curve(list(range(1000)))) == 24


def test_the_main_metrics_come_first():
    results = Results()
    results.add("step", 0, {f"train/{number}": 1.0 for number in range(20)})
    results.add("step", 0, {"val/acc": 1.0, "val/loss": 0.5})
    assert [one.name for one in chosen(results.scalars())][:3] == ["val/loss", "val/acc", "train/0"]
    assert len(chosen(results.scalars())) == 8


# ---------------------------------------------------------------- the end of a run


def train(root, **keywords):
    with tracking.start_run("p", "a name", root=root, **keywords) as run:
        for step in range(10):
            run.log_scalars({"val/loss": 1.0 / (step + 1), "val/<acc>": jnp.float32(step / 10)}, step=step)
    return run


def test_the_end_of_a_run_shows_what_came_of_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRACKING_CONSOLE", "on")
    run = train(tmp_path / "runs")
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("tracking: run a name of p is recorded in ")
    assert said[1].startswith("tracking: run a name finished: ")
    assert said[2].split()[:6] == ["val/loss", "0.1", "best", "0.1", "at", "step"]
    assert said[2].endswith("▁") and "█" in said[2]
    assert said[3].split()[:2] == ["val/<acc>", "0.9"]
    assert said[4] == f"  tracking show {run.id} --root {tmp_path / 'runs'}"
    # The command that it names shows it.
    from tests.support.commands import as_json

    assert as_json(*said[4].split()[1:], cwd=tmp_path)["id"] == run.id


def test_nothing_is_read_back_at_the_end(tmp_path, monkeypatch, capsys):
    from tracking_core.journal import JournalReader

    monkeypatch.setenv("TRACKING_CONSOLE", "on")
    monkeypatch.setattr(JournalReader, "look", lambda self: pytest.fail("the journal was read"))
    train(tmp_path / "runs")
    assert "val/loss" in capsys.readouterr().err


def test_what_nobody_takes_does_not_pile_up():
    results = Results()
    # As in a child that was forked while another thread was at it.
    results._lock.acquire()
    for step in range(3 * MOST_WAITING):
        results.add("step", step, {"a": 1.0})
    assert len(results._waiting) <= 2 * MOST_WAITING + 1


@pytest.mark.parametrize("console", ["off", "auto"])
def test_where_nobody_looks_nothing_is_said(tmp_path, monkeypatch, capsys, console):
    monkeypatch.setenv("TRACKING_CONSOLE", console)
    train(tmp_path / "runs")
    assert capsys.readouterr().err == ""


# ---------------------------------------------------------------- in a notebook


@pytest.fixture
def shown(monkeypatch):
    """What a real IPython shell would send to the page; all that is missing is the kernel which sends it."""
    from IPython.core.displaypub import CapturingDisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    monkeypatch.setattr(shell, "kernel", SimpleNamespace(), raising=False)
    publisher = CapturingDisplayPublisher()
    monkeypatch.setattr(shell, "display_pub", publisher)
    yield lambda: [output["data"] for output in publisher.outputs]
    InteractiveShell.clear_instance()


def test_a_notebook_shows_results_as_a_page(tmp_path, shown, capsys):
    train(tmp_path / "runs")
    assert capsys.readouterr().err == ""
    begin, end = shown()
    assert "is recorded in" in begin["text/plain"]
    assert "val/loss" in end["text/plain"]
    page = end["text/html"]
    assert "val/&lt;acc&gt;" in page and "<acc>" not in page
    assert "tracking show" in page


def test_a_cell_that_is_run_again_says_that_a_run_is_open_and_ends_it_if_asked(tmp_path, shown):
    first = tracking.start_run("p", root=tmp_path)
    second = tracking.start_run("p", root=tmp_path)
    [still] = [data["text/plain"] for data in shown() if "still open" in data["text/plain"]]
    assert first.id in still and "replace_open=True" in still
    assert first.status == second.status == "running"
    third = tracking.start_run("p", root=tmp_path, replace_open=True)
    assert (first.status, second.status, third.status) == ("finished", "finished", "running")
    assert [run.status for run in tracking.open_store(tmp_path).runs()] == ["running", "finished", "finished"]
    third.finish()


def test_a_wrong_setting_ends_no_run(tmp_path):
    first = tracking.start_run("p", root=tmp_path)
    with pytest.raises(tracking.SettingsError):
        tracking.start_run("p", root=tmp_path, backends="nosuch", replace_open=True)
    assert first.status == "running"
    first.finish()


def test_ipython_is_not_loaded_to_find_out():
    from tracking_core.runs.console import notebook

    assert ("IPython" in sys.modules) or notebook() is None
