"""Names that want to be paths, markup, control codes or each other: stored as they are, and confined to the root."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest

import tracking_core as tracking
from tests.support.programs import journal_events
from tracking_core.backends.plugins import find_adapter

HOSTILE = {
    "empty": "",
    "space": " ",
    "spaces around": "  a  ",
    "one megabyte": "long/" * 200_000 + "end",
    "one megabyte, other end": "long/" * 200_000 + "END",
    "lone surrogate": "a\ud800b",
    "surrogates, other way": "\udfff\ud800",
    "composed": unicodedata.normalize("NFC", "é/Å"),
    "decomposed": unicodedata.normalize("NFD", "é/Å"),
    "lower": "loss/train",
    "upper": "LOSS/TRAIN",
    "sharp s": "straße",
    "double s": "STRASSE",
    "up": "../../../escaped",
    "up from inside": "a/../../../../escaped",
    "backwards": "..\\..\\escaped",
    "dot": ".",
    "dots": "..",
    "hidden": ".blobs",
    "slash": "/",
    "slashes": "//a//b//",
    "nul": "a\0b",
    "device": "CON",
    "device with ending": "nul.txt",
    "colon": "C:\\x:stream",
    "ends in a dot": "name. .",
    "newlines": "a\nb\r\nc\u2028d\x85e",
    "control codes": "\x1b[2J\x1b]0;title\x07\x7f",
    "right to left": "a\u202egpj.exe",
    "html": "<script>alert('1')</script>&lt;",
    "attribute": '"><img src=x onerror=alert(1)>',
    "json": '","crc":"00000000"}\n{"seq":9',
    "format": "%s%n{0}{name!r}${HOME}`id`$(id)",
    "dashes": "--help",
    "wildcards": "*?[a]",
    "percent": "%2e%2e%2f%00",
    "tilde": "~root",
    "reserved": "$float",
    "sigil": "__proto__",
    "emoji": "🧪🏽/\u200d/\ufeff",
    "nothing to see": "\u200b",
}
NAMES = list(HOSTILE.values())


@pytest.fixture
def place(tmp_path):
    """A root deep in a directory, and a check that nothing came to be anywhere else in it."""
    base = tmp_path / "a" / "b" / "c"
    base.mkdir(parents=True)
    (tmp_path / "escaped").write_text("mine")
    absolute = tmp_path / "absolute"
    absolute.mkdir()
    yield base, str(absolute / "escaped")
    allowed = {base / "runs", base / "tb"}
    for path in tmp_path.rglob("*"):
        if any(path == top or path.is_relative_to(top) for top in allowed):
            assert not path.is_symlink()
            # Fit for every file system: ASCII, no device.
            name = path.name
            assert name.isascii() and name.isprintable() and len(name) <= 200, name[:300]
            assert name.split(".")[0].upper() not in {"CON", "NUL", "AUX", "PRN"}
            assert not set(name) & set('<>:"\\|?*') and not name.endswith((".", " "))
        else:
            assert path in {*base.parents, base, absolute, tmp_path / "escaped"}, path
    assert (tmp_path / "escaped").read_text() == "mine"


def read_back(name, place, record):
    info = tracking.RunInfo(id=record.id, name=record.name, project=record.project, dir=record.dir)
    return find_adapter(name).harness().read(place, info)


@pytest.mark.parametrize("delivery", ["process", "thread"])
def test_names_of_values(place, delivery):
    base, absolute = place
    names = [*NAMES, absolute]
    # In a configuration lone surrogates are written as escapes: see tracking_core.values.config.
    text = {name: index for index, name in enumerate(names) if name.isascii() or "\ud800" not in name}
    pixels = {name: np.full((2, 2), index, np.uint8) for index, name in enumerate(names)}
    with tracking.start_run(
        "p", root=base / "runs", backends=f"tensorboard:{base / 'tb'}", delivery=delivery, tags=[*NAMES, absolute]
    ) as run:
        run.log_scalars({name: index for index, name in enumerate(names)}, step=0)
        run.log_images(pixels, step=0)
        for index, name in enumerate(names):
            run.log_histogram(name, [float(index)], step=0)
            run.log_text(name, name[:50], step=0)
            run.log_scalars({"on its axis": index}, step=index, step_axis=name or "step")
        run.log_summary({name: index for index, name in enumerate(names)})
        run.log_config({"names": text})
    assert run.finish().ok, str(run.finish())
    record = tracking.open_store(base / "runs").runs()[0]
    assert list(record.tags) == names
    assert set(record.scalar_names()) == {*names, "on its axis"}
    for index, name in enumerate(names):
        assert list(record.scalars(name).value) == [index]
        ((step, (image,)),) = record.images(name)
        assert step == 0 and (np.asarray(image.pixels) == index).all()
    assert record.config["names"] == text
    # Read by nothing of ours.
    (scalars,) = [e for e in journal_events(run.dir) if e["kind"] == "scalars" and len(e["values"]) == len(names)]
    assert list(scalars["values"]) == names
    stored = read_back("tensorboard", base, record)
    assert {(r.name, r.value) for r in stored.scalars if r.name != "on its axis"} == {
        (n, float(i)) for i, n in enumerate(names)
    }
    axes = {r.axis: r.value for r in stored.scalars if r.name == "on its axis" and r.axis != "step"}
    assert axes == {name: float(index) for index, name in enumerate(names) if name}
    assert {image.name for image in stored.images} == set(names)
    assert {histogram.name for histogram in stored.histograms} == set(names)


def test_names_of_artifacts(place):
    base, absolute = place
    names = [*NAMES, absolute]
    with tracking.start_run("p", root=base / "runs", backends=f"tensorboard:{base / 'tb'}") as run:
        for index, name in enumerate(names):
            ref = run.log_artifact(
                {"file.txt": f"{index}".encode()},
                name=name or "none",
                type=name or "file",
                aliases=[name] if name else [],
            )
            if name:
                assert ref.name == name
                assert run.use_artifact(f"{name}:v0").version == ref.version
    record = tracking.open_store(base / "runs").runs()[0]
    found = {event["name"] for event in journal_events(record.dir) if event["kind"] == "artifact"}
    assert {name for name in names if name} <= found


@pytest.mark.parametrize("name", [*HOSTILE, "absolute"])
def test_names_of_files_in_an_artifact_lead_nowhere(place, name, troubles):
    base, absolute = place
    path = absolute if name == "absolute" else HOSTILE[name]
    with tracking.start_run("p", root=base / "runs", backends="local") as run:
        run.log_artifact({path: b"content", "other.txt": b"fine"}, name="files")
        run.log_scalars({"x": 1.0}, step=0)
    # Kept under that very path in the manifest, or refused as a whole: never somewhere else.
    events = [e for e in journal_events(run.dir) if e["kind"] == "artifact"]
    assert bool(events) != bool(troubles)
    if events:
        assert path in json.loads(json.dumps(events[0])).__str__() or repr(path)[1:-1] in str(events[0])
    assert tracking.open_store(base / "runs").runs()[0].status == "finished"


def test_names_of_projects_and_runs(place):
    base, absolute = place
    names = [*NAMES, absolute]
    for index, name in enumerate(names):
        with tracking.start_run(
            name, name, root=base / "runs", backends="local", run_id=f"r{index}", group=name, notes=name, job_type=name
        ) as run:
            run.log_scalars({"x": float(index)}, step=0)
        assert run.dir.is_relative_to(base / "runs")
    store = tracking.open_store(base / "runs")
    records = {record.id: record for record in store.runs()}
    assert len(records) == len(names)
    for index, name in enumerate(names):
        record = records[f"r{index}"]
        assert record.project == (name or "default")
        if name:
            assert record.name == name
        assert list(record.scalars("x").value) == [float(index)]
        assert [one.id for one in store.runs(project=name or "default")] == [f"r{index}"]
    assert set(store.projects()) == {name or "default" for name in names}


@pytest.mark.parametrize("name", [*HOSTILE, "absolute"])
def test_run_ids_are_refused(place, name):
    base, absolute = place
    identity = absolute if name == "absolute" else HOSTILE[name]
    if name == "empty" or name.startswith("device") or identity == "STRASSE":
        pytest.skip("none at all, or one that may be a directory here")
    with pytest.raises(tracking.SettingsError):
        tracking.start_run("p", root=base / "runs", run_id=identity, backends="local")
    with pytest.raises(tracking.TrackingError):
        tracking.open_store(base / "runs").run(identity)


def test_names_in_the_environment(place, monkeypatch):
    base, absolute = place
    monkeypatch.setenv("TRACKING_PROJECT", "../../up\nand <b>down</b>\udc80")
    monkeypatch.setenv("TRACKING_NAME", absolute)
    monkeypatch.setenv("TRACKING_TAGS", "../x,<i>,\udcff")
    with tracking.start_run(root=base / "runs", backends=f"tensorboard:{base / 'tb'}") as run:
        run.log_scalars({"x": 1.0}, step=0)
    (record,) = tracking.open_store(base / "runs").runs()
    assert (record.project, record.name) == ("../../up\nand <b>down</b>\udc80", absolute)
    assert list(record.tags) == ["../x", "<i>", "\udcff"]
