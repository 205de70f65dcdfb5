"""A canary is put wherever secrets lie around in a training; then every byte that was written is searched for it."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import sys

import pytest

from tests.support.programs import REPO, only_run, run

ADAPTER = '''
"""A backend whose errors quote the credentials it was given, as many clients' do."""
import os, sys, warnings
import tracking_core as tracking

def quoted():
    canary = open("{canary_file}").read()
    print("client: key", canary); print("client: key", canary, file=sys.stderr)
    return "POST https://user:" + canary + "@host/api failed: " + {wording}

class Leaky:
    calls = 0
    url = None
    def log_scalars(self, scalars, *, step, step_axis="step", wall_time=None):
        self.calls += 1
        if self.calls == 1:
            raise tracking.RetryLater(quoted(), after=0.01)
        if self.calls == 2:
            raise tracking.Rejected(key="x", reason=quoted())
        raise RuntimeError(quoted())
    def log_images(self, images, *, step, **keywords):
        raise KeyboardInterrupt(quoted())
    def log_histogram(self, name, values, *, step, **keywords):
        try:
            raise ValueError(quoted())
        except ValueError as error:
            raise ConnectionError(quoted()) from error
    def log_artifact(self, artifact, *, name=None, **keywords):
        raise OSError(5, quoted())
    def flush(self):
        raise OSError(5, quoted())
    def finish(self, status="finished", *, error=None):
        raise RuntimeError(quoted())

@tracking.hookimpl
def tracking_adapter():
    return tracking.AdapterInfo(name=__name__, api_version=1)

@tracking.hookimpl
def open_tracker(target, run):
    if __name__ == "shut":
        raise RuntimeError(quoted())
    return Leaky()
'''


def install(site, canary_file, wording):
    """Two adapters in a place that only an entry of the import path leads to, as an installed package has it."""
    for name in ("leaky", "shut"):
        (site / f"{name}.py").write_text(
            ADAPTER.replace("{canary_file}", str(canary_file)).replace("{wording}", wording)
        )
        facts = site / f"{name}-1.0.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (facts / "entry_points.txt").write_text(f"[tracking_core.adapters]\n{name} = {name}\n")


def git(place, *arguments):
    subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e@x", *arguments], cwd=place, check=True, capture_output=True
    )


@pytest.fixture
def canary():
    return "c4n4ry" + secrets.token_hex(14)


@pytest.fixture
def scene(tmp_path, canary):
    """A repository with the canary in its remote and its diff, and adapters that quote it; all outside of the root."""
    hidden = tmp_path / "hidden"
    repository, site = hidden / "repository", hidden / "site"
    for place in (repository, site):
        place.mkdir(parents=True)
    (hidden / "canary").write_text(canary)
    git(repository, "init", "-q")
    (repository / "train.cfg").write_text("lr = 0.1\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "first")
    git(repository, "remote", "add", "origin", f"https://user:{canary}@example.org/team/code.git")
    (repository / "train.cfg").write_text(
        f'lr = 0.2\napi_key = "{canary}"\nexport DB_PASSWORD={canary}\nurl: https://me:{canary}@db/x\n'
    )
    return hidden


def found(tmp_path, canary, hidden, *texts):
    """Where the canary is, as it is or as base64 may hold it."""
    forms = [canary.encode()]
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + canary.encode())
        forms.append(encoded[4:-4])
    places = [f"output {i}" for i, text in enumerate(texts) if any(form in text.encode() for form in forms)]
    read = 0
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_relative_to(hidden):
            read += 1
            content = str(path).encode() + path.read_bytes()
            places += [str(path.relative_to(tmp_path))] if any(form in content for form in forms) else []
    assert read > 5
    return places


PROGRAM = """
import argparse, logging, os, pathlib, sys, warnings
logging.basicConfig(level=logging.DEBUG)
warnings.simplefilter("always")
import numpy as np
import tracking_core as tracking

base = pathlib.Path({base!r})
canary = (base / "hidden" / "canary").read_text()
sys.argv += ["--api-key", canary, "--token=" + canary, "--password", canary, "url=https://me:" + canary + "@db/x"]

for target in (
    "tensorboard:./tb?token=" + canary,
    "wandb://user:" + canary + "@team/p",
    "wandb://team/p?api_key=" + canary,
    "nobody?secret=" + canary,
):
    try:
        tracking.start_run("p", root=base / "runs", backends=target)
    except tracking.SettingsError as error:
        print("refused:", error)
    else:
        raise AssertionError("not refused")

class Model:
    api_key = canary
    def __repr__(self):
        return "Model(api_key='" + canary + "')"

config = {{
    "lr": 0.1, "password": canary, "nested": {{"hf_token": canary, "deep": [{{"client_secret": canary}}]}},
    "database": "postgres://me:" + canary + "@db/x", "command": "train --api-key " + canary, "model": Model(),
    "headers": {{"Authorization": "Bearer " + canary}},
}}
run = tracking.start_run(
    "p", root=base / "runs", config=config, notes="started with password=" + canary,
    backends=["leaky", "shut", "tensorboard:" + str(base / "tb"), "wandb://?mode=offline"],
)
try:
    with run:
        for step in range(5):
            run.log_scalars({{"x": float(step)}}, step=step)
        run.log_images({{"i": np.zeros((4, 4), np.uint8)}}, step=0)
        run.log_histogram("h", [1.0, 2.0], step=0)
        run.log_artifact({{"f.txt": b"nothing"}}, name="a", metadata={{"token": canary}})
        run.log_config({{"late": {{"secret": canary}}}})
        run.log_summary({{"best": 1.0}})
        run.log_alert("down", "cannot reach https://me:" + canary + "@db/x", level="error")
        run.log_scalars({{"y": Model()}}, step=0)
        run.flush(5.0)
        print(run.health, run.health.errors)
        raise ValueError("cannot log in with " + {wording})
except ValueError as error:
    pass
print(run.finish())
print(dict(run.config), run.dir)
for record in tracking.open_store(base / "runs").runs():
    print(record.config, record.environment, record.status)
sys.stdout.flush()
"""


@pytest.mark.parametrize("known_by", ["value", "name"])
def test_the_canary_is_nowhere(tmp_path, canary, scene, known_by):
    """Known by its exact value, since a variable with a secret name has it; or by the names that stand before it."""
    wording = "canary" if known_by == "value" else "'api_key=' + canary + ' is not valid'"
    install(scene / "site", scene / "canary", wording)
    import os

    env = {
        "PYTHONPATH": os.pathsep.join([str(REPO), str(REPO / "adapters"), str(scene / "site")]),
        "WANDB_DIR": str(tmp_path / "wandb"),
        "TRACKING_CONSOLE": "on",
        "HOME": str(tmp_path),
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    (tmp_path / "wandb").mkdir()
    if known_by == "value":
        env |= {"MY_SERVICE_TOKEN": canary, "DB_PASSWORD": canary}
    program = PROGRAM.format(base=str(tmp_path), wording=wording)
    out, err = run(program, scene / "repository", **env)
    assert found(tmp_path, canary, scene, out, err) == []
    # It was really there to be found, and what is no secret is still there.
    run_dir = only_run(tmp_path / "runs")
    written = b"".join(path.read_bytes() for path in (run_dir / "journal").glob("*.jsonl")).decode()
    assert out.count("refused:") == 4
    assert "https://example.org/team/code.git" in written
    assert "+lr = 0.2" in written
    assert "ValueError: cannot log in with" in written
    assert "leaky" in err and "RuntimeError" in err and "shut" in err
    facts = json.loads((run_dir / "run.json").read_bytes())
    assert facts["config"]["lr"] == 0.1 and facts["config"]["password"] == "[redacted]"
    # The commands that tell about all this keep it to themselves as well.
    for command in (["doctor"], ["backends"]):
        shown = subprocess.run(
            [sys.executable, "-m", "tracking_core.cli", *command],
            cwd=scene / "repository",
            env={
                **os.environ,
                **env,
                "TRACKING_DIR": str(tmp_path / "runs"),
                "TRACKING_BACKEND": f"leaky?token={canary}",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert "leaky" in shown.stdout + shown.stderr
        assert canary not in shown.stdout + shown.stderr


@pytest.mark.parametrize("ahead", [460, 470])
def test_a_message_that_is_cut_off_shows_no_part_of_it(tmp_path, canary, ahead, monkeypatch, caplog, troubles):
    import tracking_core as tracking

    monkeypatch.setenv("MY_SERVICE_TOKEN", canary)

    class Fails:
        def log_scalars(self, scalars, **keywords):
            raise RuntimeError("x" * ahead + canary)

        def finish(self, status="finished", *, error=None):
            raise RuntimeError("x" * ahead + canary)

        log_images = log_histogram = log_artifact = log_scalars

    run = tracking.start_run("p", root="runs", backends=[Fails()])
    run.log_scalars({"x": 1.0}, step=0)
    report = run.finish()
    assert "RuntimeError" in str(report)
    assert canary[:12] not in str(report) + caplog.text
