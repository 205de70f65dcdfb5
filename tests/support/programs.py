"""Runs small programs in processes of their own, and reads journals without our reader."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path
from unittest.mock import patch

REPO = Path(__file__).resolve().parents[2]


def start(code: str, cwd: Path, **env: str) -> subprocess.Popen:
    """Start a Python program; its output is captured."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TRACKING_", "WANDB_"))}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=cwd,
        env={**clean, "JAX_PLATFORMS": "cpu", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(code: str, cwd: Path, *, code_expected: int = 0, timeout: float = 120, **env: str) -> tuple[str, str]:
    """Run a Python program to its end; returns (stdout, stderr)."""
    process = start(code, cwd, **env)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == code_expected, f"exit {process.returncode}, expected {code_expected}:\n{out}\n{err}"
    return out, err


def here(code: str, cwd: Path, **env: str) -> None:
    """Run a Python program in this process: for what it leaves, where it makes no difference who made it."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TRACKING_", "WANDB_"))}
    with contextlib.chdir(cwd), patch.dict(os.environ, {**clean, **env}, clear=True):
        exec(textwrap.dedent(code), {"__name__": "__main__"})


def journal_events(run_dir: Path) -> list[dict]:
    """All events of a run in the order of their writers, read by json, zlib and pyarrow alone.

    Every line must be intact, but for one that a killed process had not come to the end of.
    """
    while True:
        # A process that was killed may have been compacting: what it had begun is done, and then nothing changes.
        before = _names(run_dir)
        with contextlib.suppress(FileNotFoundError):
            found = _events_now(run_dir)
            if _names(run_dir) == before:
                return found


def _names(run_dir: Path) -> list[str]:
    return sorted(path.name for pattern in ("scalars-*.parquet", "journal/*.jsonl") for path in run_dir.glob(pattern))


def _events_now(run_dir: Path) -> list[dict]:
    # What was compacted first: a segment that is in a part may still be there.
    events = [event for path in sorted(run_dir.glob("scalars-*.parquet")) for event in _part_events(path)]
    merged = {(event["writer"], number) for event in events if event["kind"] == "compacted"
              for number in range(event["segments"][0], event["segments"][1] + 1)}  # fmt: skip
    events = [event for event in events if event["seq"] > 0]
    for path in sorted((run_dir / "journal").glob("*.jsonl")):
        writer, _, number = path.stem.rpartition("-")
        if (writer, int(number)) in merged:
            continue
        for line in path.read_bytes().split(b"\n")[:-1]:
            if not line:
                continue
            head, mark, tail = line.rpartition(b',"crc":"')
            assert mark and int(tail[:8], 16) == zlib.crc32(head), line
            event = json.loads(line)
            event["writer_file"] = writer
            events.append(event)
    return sorted(events, key=lambda event: (event["writer_file"], event["seq"]))


def _part_events(path: Path) -> list[dict]:
    """The events of a part: the lines beside the Parquet file, and its rows call by call."""
    import pyarrow.parquet

    lines = path.with_name(f"events{path.stem.removeprefix('scalars')}.jsonl").read_bytes().split(b"\n")[:-1]
    events = []
    for line in lines:
        head, mark, tail = line.rpartition(b',"crc":"')
        assert mark and int(tail[:8], 16) == zlib.crc32(head), line
        events.append(json.loads(line))
    writer = events[0]["writer"]
    kinds = {"float": float, "int": int, "bool": bool}
    calls = {}
    for row in pyarrow.parquet.read_table(path).to_pylist():
        at = row["time"].timestamp()
        call = {"seq": row["seq"], "kind": "scalars", "t": at, "axis": row["axis"], "step": row["step"], "values": {}}
        calls.setdefault(row["seq"], call)["values"][row["name"]] = kinds[row["kind"]](row["value"])
    return [{**event, "writer_file": writer} for event in (*events, *calls.values())]


def scalar_rows(run_dir: Path) -> list[tuple]:
    """(name, axis, step, value) of every scalar in a journal, in order."""
    rows = []
    for event in journal_events(run_dir):
        if event["kind"] == "scalars":
            rows += [(name, event["axis"], event["step"], float(value)) for name, value in event["values"].items()]
    return rows


def only_run(root: Path) -> Path:
    """The directory of the only run under a root."""
    found = sorted(root.glob("*/*/run.json"))
    assert len(found) == 1, found
    return found[0].parent
