"""An adapter that writes down what it is told, one line of JSON a call, wherever it is opened.

`rec://team/project` says where a run goes; what is left out comes from the environment and the run, as at W&B: `rec` of
a run of project "p" is `rec://stub/p`. `places=False` leaves out the hook that says so.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.support.distributions import install
from tracking_core.backends.plugins import forget_adapters
from tracking_core.delivery.process import client as deliverer

_SOURCE = """
import json
import os
from pathlib import Path

import tracking_core as tracking

LOG = {log!r}


def write(what, **facts):
    fd = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, json.dumps({{"what": what, **facts}}).encode() + b"\\n")
    os.close(fd)


def place(target, run):
    return "rec://" + (target.authority or os.environ.get("REC_TEAM", "stub")) + "/" + (target.path or run.project)


@tracking.hookimpl
def tracking_adapter():
    return tracking.AdapterInfo(name="rec", api_version=1, local_path=False)


@tracking.hookimpl
def open_tracker(target, run):
    write(
        "open", target=str(target), named=target.named, place=place(target, run), config=dict(run.config),
        resumed=run.resumed, state=dict(run.state),
    )
    run.state["opened"] = run.state.get("opened", 0) + 1
    return Recorder(place(target, run))


class Recorder:
    def __init__(self, place):
        self.place = place

    def log_scalars(self, scalars, *, step, step_axis="step", wall_time=None):
        if Path(LOG + ".down").exists():
            raise tracking.RetryLater("away", after=0.02)
        if Path(LOG + ".broken").exists():
            raise RuntimeError("broken")
        write("scalars", place=self.place, step=step, scalars=dict(scalars))

    def log_images(self, images, *, step, step_axis="step", wall_time=None, value_range=None):
        pass

    def log_histogram(self, name, values, *, step, step_axis="step", wall_time=None, bins=64):
        pass

    def log_artifact(self, artifact, *, name=None, type="file", metadata=None, aliases=()):
        return tracking.ArtifactRef(name or "unnamed", type)

    def log_config(self, config):
        write("config", config=dict(config))

    def finish(self, status="finished", *, error=None):
        write("finish", place=self.place, status=status, error=error)
"""
_PLACES = """

@tracking.hookimpl
def target_place(target, run):
    write("asked", target=str(target))
    return place(target, run)
"""


class Recordings:
    """What the adapter wrote down.

    Args:
        log: The file.
        site: The directory on the path that the adapter is in.
    """

    def __init__(self, log: Path, site: Path) -> None:
        self.log = log
        self.site = site

    def all(self, what: str) -> list[dict[str, Any]]:
        """The calls of one kind, in order."""
        lines = self.log.read_bytes().splitlines() if self.log.exists() else []
        return [call for call in map(json.loads, lines) if call["what"] == what]

    @property
    def opened(self) -> int:
        """How often a run was opened."""
        return len(self.all("open"))

    def steps(self) -> list[tuple[str, int]]:
        """(place, step) of every row."""
        return [(call["place"], call["step"]) for call in self.all("scalars")]

    def away(self, is_away: bool) -> None:
        """Whether the backend asks to be tried later."""
        down = Path(f"{self.log}.down")
        down.write_text("") if is_away else down.unlink(missing_ok=True)

    def break_down(self) -> None:
        """Let the backend fail on every row."""
        Path(f"{self.log}.broken").write_text("")


def install_recorder(place: Path, monkeypatch: Any, *, places: bool = True) -> Recordings:
    """Install the adapter "rec" for this process and those that it starts; again replaces it.

    Args:
        place: A directory of the test.
        monkeypatch: The fixture of pytest.
        places: Whether it says which place a target leads to.
    """
    site, log = place / "recorder", place / "recorded.jsonl"
    module = f"rec_adapter_{'with' if places else 'without'}_places"
    source = _SOURCE.format(log=str(log)) + (_PLACES if places else "")
    install(site, "rec-dist", "1.0", {"rec": module}, {module: source})
    monkeypatch.syspath_prepend(str(site))
    # That of an earlier test writes to another file.
    monkeypatch.delitem(sys.modules, module, raising=False)
    # So does that of a deliverer which has served one.
    monkeypatch.setattr(deliverer, "_shared", None)
    # On a busy machine one of low priority may be silent for long.
    monkeypatch.setattr(deliverer, "PATIENCE", 60.0)
    forget_adapters()
    return Recordings(log, site)
