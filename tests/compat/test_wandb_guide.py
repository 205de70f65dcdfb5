"""A guide to W&B as a program: every section of it, on every backend, read back by readers that are not ours."""

from __future__ import annotations

import contextlib
import os
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest

import tracking_core as tracking
import tracking_core.compat.wandb as wandb
from tests.compat import guide
from tests.compat.digits import Lab
from tests.support.wandb_client import client_env, wandb_client
from tracking_core.backends.plugins import find_adapter
from tracking_core.base import problems
from tracking_core.testing.contract.local import read_run_directory

pytestmark = pytest.mark.system

#: Each section; those that are to come say what they need, and fail until it is there.
SECTIONS = {
    "quick start callback": (guide.quick_start, "needs callbacks (H)"),
    "basic logging": (guide.basic_logging, ""),
    "watching a model": (guide.watching, "needs watch (H)"),
    "advanced metrics": (guide.advanced_metrics, ""),
    "histograms": (guide.histograms, ""),
    "latent codes": (guide.latent_codes, ""),
    "latent space": (guide.latent_space, "needs plots (H)"),
    "quality": (guide.quality, ""),
    "sweep": (guide.sweep, "needs sweeps (I)"),
    "agent": (guide.agent, "needs sweeps (I)"),
    "multi-objective": (guide.multi_objective, "needs sweeps (I)"),
    "model artifact": (guide.model_artifact, ""),
    "model artifact loaded": (guide.model_loaded, "needs models and lineage (G)"),
    "dataset": (guide.dataset, ""),
    "link": (guide.link, "needs models and lineage (G)"),
    "lineage": (guide.lineage, "needs models and lineage (G)"),
    "report": (guide.report, "needs pages (J)"),
    "sample grid": (guide.sample_grid, ""),
    "reconstruction": (guide.reconstruction, ""),
    "t-SNE": (guide.t_sne, "needs plots (H)"),
    "interpolation video": (guide.interpolation_video, "needs video under W&B's name (H)"),
    "trainer": (guide.trainer, ""),
}
#: Sections that start runs of their own; the others share one.
ALONE = {"quick start callback", "basic logging", "sweep", "agent", "multi-objective", "lineage", "trainer"}
BACKENDS = {
    "local": "local",
    "tensorboard": "tensorboard:./tb",
    "wandb": "wandb:?mode=offline&system_metrics=off&metadata=off&git=off",
}


@pytest.fixture(scope="module")
def lab():
    return Lab()


@pytest.fixture(scope="module")
def followed(lab, tmp_path_factory):
    """Backend → what became of each section there, the sections all gone through once."""
    found = {}

    def follow(backend):
        if backend not in found:
            found[backend] = _follow(lab, backend, tmp_path_factory.mktemp(backend))
        return found[backend]

    return follow


def _follow(lab, backend, place):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TRACKING_", "WANDB_"))}
    settings = {
        "TRACKING_BACKEND": BACKENDS[backend],
        "TRACKING_DELIVERY": "thread",
        "TRACKING_DIR": str(place / "runs"),
    }
    heard = []

    def listen(reason, message, error):
        heard.append((reason, message))

    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, {**clean, **settings}, clear=True))
        stack.enter_context(contextlib.chdir(place))
        problems.listeners.append(listen)
        stack.callback(problems.listeners.remove, listen)
        if backend == "wandb":
            env = client_env(place / "client")
            del env["WANDB_MODE"], env["WANDB_DIR"]
            stack.enter_context(patch.dict(os.environ, env))
            stack.enter_context(wandb_client(env))
        sections = {}
        wandb.init(project="guide", name="shared")
        for name in SECTIONS:
            if name not in ALONE:
                sections[name] = _go_through(lab, name)
        wandb.finish()
        for name in ALONE:
            sections[name] = _go_through(lab, name)
            wandb.finish()
    return SimpleNamespace(sections=sections, heard=heard, place=place)


def _go_through(lab, name):
    function, _ = SECTIONS[name]
    before = len(tracking_runs())
    try:
        rows, error = function(lab), None
    except Exception as problem:
        rows, error = [], problem
    runs = tracking_runs()[before:] or tracking_runs()[-1:]
    return SimpleNamespace(rows=rows, error=error, run=runs[-1] if runs else None)


def tracking_runs():
    """The runs that the door has started so far, in order."""
    store = tracking.open_store()
    return sorted(store.runs(), key=lambda record: record.started)


def stored_of(backend, section, place):
    """What a reader that is not ours finds of the run of a section."""
    record = section.run
    if backend == "local":
        return read_run_directory(record.dir)
    info = tracking.RunInfo(id=record.id, name=record.name, project=record.project, dir=record.dir)
    where = place if backend == "tensorboard" else record.dir
    return find_adapter(backend).harness().read(where, info)


def _table():
    for name, (_, missing) in SECTIONS.items():
        marks = (
            [pytest.mark.xfail(reason=missing, raises=(AttributeError, ImportError), strict=True)] if missing else []
        )
        yield pytest.param(name, id=name, marks=marks)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", [*_table()])
def test_a_section_of_the_guide(name, backend, followed):
    all_of_it = followed(backend)
    section = all_of_it.sections[name]
    if section.error is not None:
        raise section.error
    assert section.rows
    stored = stored_of(backend, section, all_of_it.place)
    for row in section.rows:
        check(row, stored, backend)


def check(row, stored, backend):
    kind, name, step, value = row
    if kind == "scalar":
        found = [one.value for one in stored.scalars if (one.name, one.step) == (name, step)]
        wanted = float(np.float32(value)) if backend == "tensorboard" else float(value)
        assert wanted in found, (row, found)
    elif kind == "image":
        found = [one.pixels.squeeze() for one in stored.images if (one.name, one.step) == (name, step)]
        assert any(np.array_equal(one, np.squeeze(value)) for one in found), (name, len(found))
    elif kind == "histogram":
        (one,) = [one for one in stored.histograms if (one.name, one.step) == (name, step)]
        assert one.value.counts.sum() == value
    elif kind == "table":
        (one,) = [one for one in stored.tables if (one.name, one.step) == (name, step)]
        assert [list(cells) for cells in one.value.rows] == value
    elif kind == "config":
        assert stored.config[name] == value
    else:
        assert kind == "artifact"
        (one,) = [one for one in stored.artifacts if one.name == name]
        assert one.type == step
        # TensorBoard shows which files an artifact has; their bytes are in the run store.
        assert sorted(one.files) == sorted(value)
        assert backend == "tensorboard" or dict(one.files) == value


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_was_lost_on_the_way(backend, followed):
    assert [one for one in followed(backend).heard if one[0] != "fallback"] == []
