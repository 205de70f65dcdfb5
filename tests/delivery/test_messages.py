"""One fault is one message: when it happens, and not again at the end, whoever delivers and however strict."""

from __future__ import annotations

import re

import pytest

from tests.support.distributions import good, install
from tests.support.programs import REPO, run
from tracking_core.delivery.closing import closing_words
from tracking_core.delivery.report import TargetReport

pytestmark = pytest.mark.system

FAULT = "the fault that is said once"
OPENING = "    return Lines(target.path)"
FAULTS = {
    "settings": f"    raise tracking.SettingsError('{FAULT}')",
    "adapter": f"    raise tracking.BrokenAdapterError('{FAULT}')",
    "any": f"    raise RuntimeError('{FAULT}')",
    "exit": f"    raise SystemExit('{FAULT}')",
    "later": f"    raise tracking.RetryLater('{FAULT}', after=0.01)",
    "package": "    return Lines(target.path)",
    "check": "    return Lines(target.path)",
}
MISSING = "no_such_module_anywhere"
CHECK = f"""
@tracking.hookimpl
def check_target(target):
    raise ValueError('{FAULT}')
"""


def site(tmp_path):
    """An adapter for each fault, and one whose records fail."""
    place = tmp_path / "site"
    for name, fault in FAULTS.items():
        source = good(name).replace(OPENING, fault)
        if name == "package":
            source = good(name, requires=f'("{MISSING}",)')
        if name == "check":
            source += CHECK
        install(place, f"{name}-dist", "1.0", {name: f"{name}_module"}, {f"{name}_module": source})
    failing = good("failing").replace(
        "        self.file.write(", f"        raise RuntimeError('{FAULT}')\n        str("
    )
    install(place, "failing-dist", "1.0", {"failing": "failing_module"}, {"failing_module": failing})
    return f"{REPO}:{place}"


PROGRAM = """
import sys
import tracking_core as tracking
from tracking_core.delivery.closing import closing_words
from tracking_core.delivery.report import TargetReport
try:
    with tracking.start_run("p", run_id="r", backends={backends!r}, delivery={delivery!r}, strict={strict}) as run:
        for step in range({steps}):
            run.log_scalars({{"x": 1.0}}, step=step)
        run.flush(5.0)
        # Less patience at the end than the 60 s of a user.
        type(run).finish.__defaults__ = ("finished", 5.0)
except tracking.TrackingError as error:
    print("raised:", error)
"""


def said(tmp_path, backends, delivery, strict, steps=3):
    program = PROGRAM.format(backends=backends, delivery=delivery, strict=strict, steps=steps)
    out, err = run(program, tmp_path, PYTHONPATH=site(tmp_path), TRACKING_CONSOLE="on")
    return out + err


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("delivery", ["process", "thread", "inline"])
@pytest.mark.parametrize("fault", ["settings", "adapter", "any", "exit"])
def test_a_backend_that_cannot_be_opened_is_said_once(tmp_path, fault, delivery, strict):
    text = said(tmp_path, f"{fault}:./lines.json", delivery, strict)
    assert text.count(FAULT) == 1, text
    assert "{'" not in text
    at_the_end = [line for line in text.splitlines() if "records wait for" in line]
    if strict:
        assert "raised: start_run: " in text
        assert at_the_end == []
    else:
        [line] = at_the_end
        assert re.search(
            rf"at the end, 3 records wait for {fault}; `tracking sync r --root \S+` delivers the waiting records", line
        )


@pytest.mark.parametrize("delivery", ["process", "thread"])
def test_two_backends_that_cannot_be_opened_are_one_line_at_the_end(tmp_path, delivery):
    text = said(tmp_path, "settings:./a,adapter:./b", delivery, False)
    assert text.count(FAULT) == 2
    [line] = [line for line in text.splitlines() if "records wait for" in line]
    assert "3 records wait for settings, 3 records wait for adapter; `tracking sync r" in line


@pytest.mark.parametrize("delivery", ["process", "thread"])
def test_a_backend_that_asks_to_come_back_later_is_said_once(tmp_path, delivery):
    text = said(tmp_path, "later:./lines.json", delivery, False)
    assert text.count(FAULT) == 1, text


@pytest.mark.parametrize("fault", ["package", "check"])
@pytest.mark.parametrize("strict", [False, True])
def test_what_can_be_told_before_is_raised_and_not_said_as_well(tmp_path, fault, strict):
    text = said(tmp_path, f"{fault}:./lines.json", "process", strict)
    assert text.count(FAULT if fault == "check" else f"needs {MISSING}") == 1
    assert text.startswith("raised: ")
    assert not (tmp_path / "tracking_runs").exists()


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("delivery", ["process", "thread"])
def test_records_that_fail_are_said_once(tmp_path, delivery, strict):
    text = said(tmp_path, "failing:./lines.json", delivery, strict, steps=30)
    assert text.count(FAULT) == 1, text
    assert "{'" not in text


def test_a_traceback_says_a_fault_once(tmp_path):
    code = "import tracking_core as t\nt.start_run(backends='check:./x')"
    _, err = run(code, tmp_path, code_expected=1, PYTHONPATH=site(tmp_path))
    assert err.count(FAULT) == 1
    assert "the argument backends: 'check:" in err


def test_a_cause_that_was_said_is_not_said_again_where_a_count_has_grown(tmp_path):
    said = ["paused for 0.5 s after 10 consecutive failures: RuntimeError: the disk of the server is full"]
    reports = [
        TargetReport("rec", pending=1, last_error=reason)
        for reason in (
            "paused for 1 s after 11 consecutive failures: RuntimeError: the disk of the server is full",
            "paused for 1 s after 11 consecutive failures: RuntimeError: another fault altogether",
        )
    ]
    words = closing_words(reports, tmp_path / "p" / "r", lambda text: any(text in one for one in said))
    assert "the disk of the server is full" not in words
    assert "1 record waits for rec (paused for 1 s after 11 consecutive failures: RuntimeError: another fault" in words
