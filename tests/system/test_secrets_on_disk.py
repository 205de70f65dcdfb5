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
# Less patience at the end than the 60 s of a user.
type(run).finish.__defaults__ = ("finished", 5.0)
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


# ---------------------------------------------------------------- the exact value of a secret variable, everywhere

EVERYWHERE = """
import dataclasses, io, logging, os, pathlib, sys, warnings
logging.basicConfig(level=logging.DEBUG)
import numpy as np
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
import tracking_core as tracking

base = pathlib.Path(sys.argv.pop())
canary = (base / "hidden" / "canary").read_text()
s = "a " + canary + " b"
sys.argv += [s, "curl", "-u", "me:" + canary]

class PlotlyFigure:
    def to_plotly_json(self):
        return {}
    def to_json(self):
        import json
        return json.dumps({"data": [{"y": [123456], "name": s}], "layout": {"title": {"text": s}}})

def picture(kind):
    info = PngInfo()
    if kind == "latin": info.add_text("comment", s)
    if kind == "packed": info.add_text("comment", s, zip=True)
    if kind == "utf": info.add_itxt("comment", s, zip=True)
    out = io.BytesIO()
    Pillow.fromarray(np.zeros((4, 4), np.uint8)).save(out, format="PNG", pnginfo=info)
    return out.getvalue()

backends = ["tensorboard:" + str(base / "tb"), "wandb://?mode=offline"] if DELIVERY != "inline" else "local"
run = tracking.start_run(
    "p", s, tags=[s, "kept"], group=s, job_type=s, notes=s, root=base / "runs", backends=backends, delivery=DELIVERY,
    config={"plain": s, s: 1, "words": ["train.py", "--note", s], "named": [{"name": "x", "value": s}], "tuple": (s, (s,))},
)
with run:
    for axis in ("step", s):
        run.log_scalars({s: 0.5, "kept": 1.0, "nested": {s: 2.0}}, step=1, step_axis=axis)
    run.log_scalars({s: np.float32(1.5)}, step=2)
    run.log_scalars(tracking.Stacked((s, "other"), np.array([1.0, 2.0])), step=3)
    run.log({s: 1.0, "mixed": {s: np.zeros((4, 4), np.uint8)}, "text": s})
    run.scope(s).log_scalars({"scoped": 1.0}, step=1)
    run.every(1).log_scalars({s + "every": 1.0}, step=1)
    run.log_images({s: tracking.Image(np.zeros((4, 4)), caption=s), "batch": tracking.Image(np.zeros((2, 4, 4)), caption=[s, "x"])}, step=1, step_axis=s)
    for kind in ("latin", "packed", "utf"):
        run.log_images({kind: tracking.Image(picture(kind))}, step=1)
        run.log_figure(kind, picture(kind), step=1)
    run.log_figure(s, PlotlyFigure(), step=1, step_axis=s)
    run.log_histogram(s, [1.0, 2.0], step=1, step_axis=s)
    run.log_histogram(s + "large", np.zeros(100_000), step=1)
    run.log_histogram("tree", {s: np.zeros(3)}, step=1)
    run.log_table(s, {s: [s, "kept", 123456], "list": [[s], [1], [2]]}, step=1, step_axis=s)
    run.log_video(s, np.zeros((2, 4, 4), np.uint8), step=1, step_axis=s)
    run.log_audio(s, tracking.Audio(np.zeros(100), caption=s), step=1, step_axis=s)
    run.log_text(s, s, step=1, step_axis=s)
    run.log_config({"late": s, s: {s: [s]}})
    run.log_summary({"best": s, s: 1})
    run.log_alert(s, s, level="warn")
    ref = run.log_artifact(
        {s + "/x.txt": b"content", "kept.txt": b"kept"}, name=s, type=s, metadata={s: s, "list": [s]}, aliases=[s]
    )
    assert run.use_artifact(s + ":v0").digest == run.use_artifact(ref).digest == ref.digest != ""
    run.use_artifact(s + ":" + s)
    run.use_artifact("elsewhere-" + s)
    run.log_scalars({s: "no number " + s, s + "2": None}, step=1)
    run.log_scalars({"a": 1.0}, step=s)
    run.log_artifact(base / ("missing" + s))
    print(run, run.name, run.tags, run.config, run.health)
    print(run.finish(error="failed with " + s, status="failed"))

for argument in ({"project": s}, {"run_id": canary}, {"backends": "tensorboard:./" + canary + "/tb"}):
    try:
        tracking.start_run(root=base / "refused", **argument)
    except tracking.SettingsError as error:
        print("refused:", error)
    else:
        raise AssertionError(argument)
"""


def inside(path):
    """What a file holds, once it is unpacked by a reader of its own kind."""
    import io
    import zipfile

    import pyarrow.parquet
    from PIL import Image

    content = path.read_bytes()
    yield content
    if path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
        yield (str(table.to_pylist()) + str(table.schema.metadata)).encode()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield name.encode() + archive.read(name)
    at = content.find(b"\x89PNG\r\n\x1a\n")
    while at >= 0:
        with Image.open(io.BytesIO(content[at:])) as image:
            image.load()
            yield str(image.info).encode()
        at = content.find(b"\x89PNG\r\n\x1a\n", at + 8)


def places_of(canary, places, hidden):
    """Files that hold the value: as it is, or as JSON, addresses or names of files have it."""
    from urllib.parse import quote

    forms = {canary, quote(canary, safe=""), json.dumps(canary)[1:-1], json.dumps(canary, ensure_ascii=False)[1:-1]}
    forms = [form.encode() for form in forms]
    found, read = [], 0
    for place in places:
        for path in place.rglob("*"):
            # The client's own debug log is the business of the adapter.
            if path.is_file() and not path.is_relative_to(hidden) and not path.name.startswith("debug"):
                read += 1
                contents = [str(path.relative_to(place)).encode(), *inside(path)]
                found += [str(path)] if any(form in content for form in forms for content in contents) else []
    assert read > 5
    return found


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("delivery", ["process", "inline"])
def test_the_exact_value_of_a_secret_variable_is_nowhere(tmp_path, canary, delivery, odd):
    canary += '/"+ü' if odd else ""
    hidden, work = tmp_path / "hidden", tmp_path / "work"
    for place in (hidden, work, tmp_path / "wandb"):
        place.mkdir()
    (hidden / "canary").write_text(canary)
    program = f"DELIVERY = {delivery!r}\nimport sys\nsys.argv.append({str(tmp_path)!r})\n{EVERYWHERE}"
    env = {
        "PYTHONPATH": f"{REPO}:{REPO / 'adapters'}",
        "MY_SERVICE_TOKEN": canary,
        "WANDB_DIR": str(tmp_path / "wandb"),
        "HOME": str(work),
        "TRACKING_CONSOLE": "on",
    }
    out, err = run(program, work, **env)
    assert canary not in out + err
    assert out.count("refused:") == 3
    assert not (tmp_path / "refused").exists()
    run_dir = only_run(tmp_path / "runs")
    for command in (["compact", run_dir.name], ["pack", run_dir.name, "-o", str(work / "run.zip")]):
        subprocess.run(
            [sys.executable, "-m", "tracking_core.cli", *command, "--root", str(tmp_path / "runs")],
            env={**clean_environment(), **env}, cwd=work, check=True, capture_output=True,
        )  # fmt: skip
    assert places_of(canary, [tmp_path / "runs", tmp_path / "wandb", work], hidden) == []
    tb = [path for path in (tmp_path / "tb").rglob("*") if path.is_file()]
    assert len(tb) > 0 or delivery == "inline"
    # It was really there to be found, and what is no secret is still there.
    import tracking_core as tracking

    record = tracking.open_store(tmp_path / "runs").run(run_dir.name)
    shown = "a [redacted] b"
    assert record.name == shown
    assert record.tags == (shown, "kept")
    assert {shown, "kept", f"nested/{shown}", f"{shown}/scoped", "other"} <= set(record.scalar_names())
    assert record.scalars("kept").value.tolist() == [1.0]
    assert record.config["late"] == shown
    assert record.config["named"] == [{"name": "x", "value": shown}]
    assert record.config["words"] == ["train.py", "--note", shown]
    [artifact] = record.artifacts()
    assert artifact.ref.name == artifact.ref.type == shown
    assert set(artifact.files) == {f"{shown}/x.txt", "kept.txt"}
    assert artifact.read("kept.txt") == b"kept"
    table = record.tables(shown)[0][1]
    assert table.columns == (shown, "list")
    assert [row[0] for row in table.rows] == [shown, "kept", 123456]
    assert record.status == "failed"
    assert record.error == f"failed with {shown}"


def clean_environment():
    import os

    return {name: value for name, value in os.environ.items() if not name.startswith(("TRACKING_", "WANDB_"))}
