"""What threads use for the first time at once: types of msgspec end the process if their fields are half resolved then."""

from __future__ import annotations

import pytest

from tests.support.programs import run

pytestmark = pytest.mark.system

CODE = """
import sys, threading
import msgspec
import tracking_core.artifacts, tracking_core.journal, tracking_core.layout.runs, tracking_core.runs.continuing
import tracking_core.compaction.compaction, tracking_core.store, tracking_core.mirror.cache, tracking_core.delivery.cursor
def below(cls):
    for one in cls.__subclasses__():
        yield one
        yield from below(one)
kinds = [one for one in below(msgspec.Struct) if one.__module__.startswith("tracking_core") or one.__name__ in ("html", "table")]
assert len(kinds) > 25, kinds
sys.setswitchinterval(1e-6)
go = threading.Barrier(8)
def work():
    go.wait()
    for kind in kinds:
        try:
            msgspec.convert({"axis": "a", "step": 1, "name": "n", "file": "f"}, kind)
        except ValueError:
            pass
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("alive")
"""


@pytest.mark.parametrize("attempt", range(5))
def test_no_type_is_half_resolved_when_threads_use_it(tmp_path, attempt):
    out, _ = run(CODE, tmp_path)
    assert out.split() == ["alive"]
