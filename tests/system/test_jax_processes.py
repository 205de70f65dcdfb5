"""Two real JAX processes on loopback, and one run of both."""

from __future__ import annotations

import json
import socket

import pytest

import tracking_core as tracking
from tests.support.programs import journal_events, run, scalar_rows, start
from tracking_core.backends.plugins import find_adapter
from tracking_core.environment.hosts import Peers, launcher_rank

PROGRAM = """
import faulthandler, json, os, sys
faulthandler.dump_traceback_later(90, exit=True)
import jax
import tracking_core as tracking

index = {index}

def begin():
    return tracking.start_run("p", root={root!r}, backends={backend!r}{arguments})

def initialize():
    jax.distributed.initialize("127.0.0.1:{port}", num_processes=2, process_id=index)

if {before}:
    run = begin()
    assert not jax._src.xla_bridge._backends
    initialize()
else:
    initialize()
    run = begin()
    assert not jax._src.xla_bridge._backends
assert jax.process_count() == 2 and jax.process_index() == index

from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import numpy as np
mesh = Mesh(np.array(jax.devices()), ("d",))
replicated = jax.make_array_from_callback((), NamedSharding(mesh, P()), lambda where: np.float32(7.0))
sharded = jax.make_array_from_callback((2,), NamedSharding(mesh, P("d")), lambda where: np.arange(2, dtype=np.float32)[where])

for step in range(20):
    run.log_scalars({{f"host-{{index}}": float(step)}}, step=step)
    run.log_scalars({{f"device-{{index}}": replicated}}, step=step)
run.log_scalars({{"partly here": sharded}}, step=0)
client = jax._src.distributed.global_state.client
if index == 1:
    run.finish()
    client.wait_at_barrier("other first", 60_000)
else:
    client.wait_at_barrier("other first", 60_000)
    run.finish()
print(json.dumps([run.id, str(run.dir), run.health.dropped]))
jax.distributed.shutdown()
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def both(tmp_path, *, before, arguments=("", ""), envs=({}, {}), backend="tensorboard:./tb", roots=None):
    port = free_port()
    roots = roots or [str(tmp_path / "runs")] * 2
    processes = [
        start(
            PROGRAM.format(index=i, port=port, before=before, arguments=arguments[i], root=roots[i], backend=backend),
            tmp_path,
            **envs[i],
        )
        for i in range(2)
    ]
    said = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        said.append((*json.loads(out.splitlines()[-1]), err))
    return said


HOST = [[(f"host-{i}", "step", s, float(s)) for s in range(20)] for i in range(2)]
DEVICE = [[(f"device-{i}", "step", s, 7.0) for s in range(20)] for i in range(2)]


def rows(run_dir, word):
    return [row for row in scalar_rows(run_dir) if row[0] == word]


@pytest.mark.parametrize("who", ["0", "all"])
def test_after_initialize_all_have_the_id_of_the_first(tmp_path, who):
    (first, place, _, _), (second, other, _, err) = both(tmp_path, before=False, envs=[{"TRACKING_PROCESS": who}] * 2)
    assert (first, place) == (second, other)
    (record,) = tracking.open_store(tmp_path / "runs").runs()
    assert (record.id, record.status) == (first, "finished")
    run_dir = tmp_path / "runs" / "p" / first
    recording = range(2) if who == "all" else range(1)
    for index in range(2):
        expected = (HOST[index], DEVICE[index]) if index in recording else ([], [])
        assert (rows(run_dir, f"host-{index}"), rows(run_dir, f"device-{index}")) == expected
    writers = {event["writer_file"] for event in journal_events(run_dir)}
    assert len(writers) == len(recording)
    # The first process delivers for all of them.
    info = tracking.RunInfo(id=first, name=record.name, project="p", dir=run_dir)
    stored = find_adapter("tensorboard").harness().read(tmp_path, info).scalars
    assert sorted((r.name, r.axis, r.step, r.value) for r in stored) == sorted(scalar_rows(run_dir))
    assert len(stored) == 40 * len(recording)


@pytest.mark.parametrize(
    "envs",
    [
        pytest.param([{"OMPI_COMM_WORLD_RANK": str(i), "OMPI_COMM_WORLD_SIZE": "2"} for i in range(2)], id="launcher"),
        pytest.param([{}, {}], id="process="),
    ],
)
def test_before_initialize_the_first_records_and_the_other_is_silent(tmp_path, envs):
    arguments = ["", ""] if envs[0] else [", process=0", ", process=1"]
    (first, _, _, _), (_, _, dropped, err) = both(tmp_path, before=True, arguments=arguments, envs=envs)
    (record,) = tracking.open_store(tmp_path / "runs").runs()
    assert (record.id, record.status) == (first, "finished")
    run_dir = tmp_path / "runs" / "p" / first
    assert rows(run_dir, "host-0") + rows(run_dir, "device-0") == HOST[0] + DEVICE[0]
    assert not rows(run_dir, "host-1")
    assert ("does not record" in err) == bool(envs[0])


def test_before_initialize_all_record_under_the_id_they_are_given(tmp_path):
    envs = [
        {"TRACKING_PROCESS": "all", "TRACKING_RUN_ID": "given", "SLURM_PROCID": str(i), "SLURM_NTASKS": "2"}
        for i in range(2)
    ]
    said = both(tmp_path, before=True, envs=envs)
    assert [one[0] for one in said] == ["given", "given"]
    run_dir = tmp_path / "runs" / "p" / "given"
    for index in range(2):
        assert rows(run_dir, f"host-{index}") + rows(run_dir, f"device-{index}") == HOST[index] + DEVICE[index]
    assert tracking.open_store(tmp_path / "runs").run("given").status == "finished"


@pytest.mark.stress
def test_hosts_that_share_no_file_system(tmp_path):
    roots = [str(tmp_path / "a"), str(tmp_path / "b")]
    said = both(tmp_path, before=False, envs=[{"TRACKING_PROCESS": "all"}] * 2, roots=roots, backend="local")
    assert said[0][0] == said[1][0]
    for index, root in enumerate("ab"):
        assert rows(tmp_path / root / "p" / said[0][0], f"host-{index}") == HOST[index]


def test_what_launchers_say():
    assert launcher_rank({}) == (None, "")
    assert launcher_rank({"SLURM_PROCID": "3", "SLURM_NTASKS": "8"}) == (3, "SLURM_PROCID")
    assert launcher_rank({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}) == (1, "OMPI_COMM_WORLD_RANK")
    assert launcher_rank({"TPU_WORKER_ID": "2", "TPU_WORKER_HOSTNAMES": "a,b,c"}) == (2, "TPU_WORKER_ID")
    # One process alone is the first, whatever number its launcher gave it; and nonsense says nothing.
    assert launcher_rank({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}) == (None, "")
    assert launcher_rank({"SLURM_PROCID": "x", "SLURM_NTASKS": "8"}) == (None, "")
    assert launcher_rank({"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "a"}) == (None, "")


def test_the_argument_wins():
    environ = {"SLURM_PROCID": "3", "SLURM_NTASKS": "8"}
    assert Peers(environ=environ).index == 3
    assert Peers(0, environ=environ).index == 0
    assert Peers(environ={}).index == 0


def test_nothing_of_jax_is_imported(tmp_path):
    run(
        "import sys; from tracking_core.environment.hosts import Peers; Peers().announce('x'); assert 'jax' not in sys.modules",
        tmp_path,
    )
