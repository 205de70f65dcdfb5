"""An adapter that fails in one way, installed where a deliverer process finds it.

`faulty:PLACE?mode=MODE` appends every row it takes to `PLACE/rows`, and every call it is asked to `PLACE/asked`. While
`PLACE/healed` exists it works, whatever its mode is. `stagger` begins when `PLACE/behind` exists, and blocks for ever
after 1,000 rows.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.support.distributions import install
from tests.support.programs import REPO

SOURCE = """
import os, signal, sys, time
from pathlib import Path
import json
import tracking_core as tracking


@tracking.hookimpl
def tracking_adapter():
    return tracking.AdapterInfo(name="faulty", api_version=1, options={"mode": "how it fails"}, description="fails")


@tracking.hookimpl
def open_tracker(target, run):
    tracker = Faulty(Path(target.path), target.options.get("mode", "none"))
    if tracker.mode == "block_opening":
        block(tracker, 0)
    return tracker


def block(tracker, step):
    while not tracker.healed:
        time.sleep(0.02)


def stagger(tracker, step):
    while not (tracker.place / "behind").exists():
        time.sleep(0.02)
    if step >= 1000:
        block(tracker, step)


def retry(tracker, step):
    if tracker.count("asked") <= 3:
        raise tracking.RetryLater("busy")


def later(tracker, step):
    raise tracking.RetryLater("closed for today", after=0.05)


def reject(tracker, step):
    if 100 <= step < 200:
        raise tracking.Rejected("some steps are not taken")


def fail(tracker, step):
    raise RuntimeError("the backend is broken")


def leave(tracker, step):
    sys.exit(3)


def interrupt(tracker, step):
    raise KeyboardInterrupt


def strange(tracker, step):
    raise type("Strange", (BaseException,), {})("nothing that anybody catches")


def slow(tracker, step):
    time.sleep(0.002)


def die(tracker, step):
    os._exit(3)


def killed(tracker, step):
    os.kill(os.getpid(), signal.SIGKILL)


def dies_once(tracker, step):
    if tracker.count("asked") == 20:
        os.kill(os.getpid(), signal.SIGKILL)


class Faulty:
    def __init__(self, place, mode):
        place.mkdir(parents=True, exist_ok=True)
        self.place, self.mode = place, mode

    @property
    def healed(self):
        return (self.place / "healed").exists()

    def count(self, name):
        return (self.place / name).read_bytes().count(b"\\n")

    def write(self, name, *fields):
        # At once, and in one piece: the process may be gone the moment after.
        with open(self.place / name, "ab", buffering=0) as file:
            file.write(json.dumps(fields).encode() + b"\\n")

    def log_scalars(self, scalars, *, step, step_axis="step", wall_time=None):
        self.write("asked", step, time.monotonic())
        if self.mode in globals() and not self.healed:
            globals()[self.mode](self, step)
        for name, value in scalars.items():
            self.write("rows", name, step_axis, step, float(value))

    def log_images(self, images, *, step, step_axis="step", wall_time=None, value_range=None):
        pass

    def log_histogram(self, name, values, *, step, step_axis="step", wall_time=None, bins=64):
        pass

    def log_artifact(self, artifact, *, name=None, type="file", metadata=None, aliases=()):
        return tracking.ArtifactRef(name or "unnamed", type)

    def finish(self, status="finished", *, error=None):
        if self.mode == "block_finishing":
            block(self, 0)
        self.write("finished", status)
"""


def faulty_site(tmp_path: Path) -> dict[str, str]:
    """Install the adapter below a directory; returns the environment in which programs find it."""
    site = install(
        tmp_path / "site", "faulty-adapter", entries={"faulty": "faulty_adapter"}, modules={"faulty_adapter": SOURCE}
    )
    path = [str(site), str(REPO), str(REPO / "adapters"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {"PYTHONPATH": os.pathsep.join(filter(None, path))}


def lines(place: Path, name: str) -> list[list[Any]]:
    """What the adapter has noted in one of its files."""
    path = place / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def heal(place: Path) -> None:
    """Let it work from now on."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "healed").touch()
