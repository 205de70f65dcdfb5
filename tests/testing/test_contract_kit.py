"""The contract kit itself: honest adapters pass, each broken one fails the one check that names its fault."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

import tracking_core as tracking
from tracking_core.errors import Rejected, RetryLater, SettingsError, UnknownAdapterError
from tracking_core.protocol import CORE_CAPABILITIES, OPTIONAL_CAPABILITIES
from tracking_core.testing import (
    AdapterHarness,
    ContractFailure,
    ContractSuite,
    FakeHarness,
    FakeTracker,
    Stored,
    check_adapter,
    faults,
)
from tracking_core.testing.contract.registry import CORE_GROUPS, GROUPS, all_checks
from tracking_core.testing.contract.runner import run_check


class TestHonest(ContractSuite):
    harness = faults.harness(faults.Honest)


@pytest.mark.system
@pytest.mark.parametrize("broken", faults.BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_adapter_fails_the_check_that_names_its_fault(broken):
    harness = faults.harness(broken)
    try:
        report = check_adapter(harness=harness)
    finally:
        faults.Blocks.released.set()
        faults.LeaksFiles.close()
    assert set(report.failed) == {broken.fails}, str(report)
    assert broken.fails in all_checks()
    assert not report.ok


def test_every_fault_of_the_issue_is_there():
    names = {
        "Drops",
        "Duplicates",
        "Reorders",
        "RoundsToFloat32",
        "Blocks",
        "ImportsEagerly",
        "MutatesInputs",
        "IgnoresAxes",
    }
    assert names <= {broken.__name__ for broken in faults.BROKEN}
    assert len({broken.fails for broken in faults.BROKEN}) == len(faults.BROKEN)


def test_every_group_has_checks_with_advice():
    checks = all_checks()
    assert [*dict.fromkeys(check.group for check in checks.values())] == list(GROUPS)
    for check in checks.values():
        assert "If this fails" in " ".join(check.doc.split()), check.name
        assert check.core == (check.group in CORE_GROUPS)
        assert not (check.core and check.needs - {"flush", "deliver"}), f"{check.name} could be opted out of"


# -- expected failures ---------------------------------------------------------------------------------------------------


class _Excused(faults.LinesHarness):
    def __init__(self, adapter, expected):
        super().__init__(adapter)
        self.expected_failures = expected


def test_an_expected_failure_is_reported_as_such():
    harness = _Excused(faults.ForgetsOnResume, {"resume.both_parts_kept": "one earlier part is kept"})
    report = check_adapter(harness=harness, checks=["resume"])
    assert report.ok
    assert report.expected == {"resume.both_parts_kept": "one earlier part is kept"}
    assert "expected resume.both_parts_kept: one earlier part is kept" in str(report)


def test_an_expected_failure_that_passes_is_a_failure():
    harness = _Excused(faults.Honest, {"resume.both_parts_kept": "it was broken once"})
    report = check_adapter(harness=harness, checks=["resume"])
    assert list(report.failed) == ["resume.both_parts_kept"]
    assert "passed, but the harness expects it to fail (it was broken once)" in report.failed["resume.both_parts_kept"]


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"resume.both_parts_kept": " "}, "needs a reason"),
        ({"resume.both_parts_kept": None}, "needs a reason"),
        ({"scalars.nothing_dropped": "we drop"}, "belongs to the core"),
        ({"lifecycle.empty_run": "no"}, "belongs to the core"),
        ({"resume.both_parts": "no"}, "did you mean 'resume.both_parts_kept'"),
    ],
)
def test_expected_failures_are_checked(expected, message):
    with pytest.raises(SettingsError, match=message):
        check_adapter(harness=_Excused(faults.Honest, expected))


# -- nothing is passed without evidence -------------------------------------------------------------------------------


class _Unread(faults.LinesHarness):
    """Reads nothing back."""

    def read(self, directory, run):
        return Stored()


@pytest.mark.system
def test_without_read_back_nothing_passes():
    report = check_adapter(harness=_Unread(faults.Honest))
    evidence = [
        check.name for check in all_checks().values() if check.group in {"scalars", "steps", "histograms", "config"}
    ]
    for name in evidence:
        if name not in report.skipped:
            assert "returned None" in report.failed[name], name


class Silent(faults.Honest):
    """Declares nothing at all, and stores nothing."""

    @tracking.hookimpl
    @classmethod
    def tracking_adapter(cls):
        return tracking.AdapterInfo(name="silent", api_version=1, capabilities=frozenset())

    @tracking.hookimpl
    @classmethod
    def open_tracker(cls, target, run):
        return tracking.NullTracker()


class _SilentHarness(AdapterHarness):
    target = "silent:{dir}"

    def plugin(self):
        return Silent

    def read(self, directory, run):
        return Stored(scalars=[])


def test_the_core_runs_whatever_is_declared():
    report = check_adapter(harness=_SilentHarness(), checks=["scalars", "steps", "media", "artifacts"])
    assert {"scalars.round_trip", "scalars.nothing_dropped", "steps.axes_kept"} <= set(report.failed)
    assert set(report.skipped) == {name for name in all_checks() if name.startswith(("media.", "artifacts."))}
    assert report.skipped["media.image_shapes"] == "the adapter does not declare the capability 'images'"


class Boastful(Silent):
    """Declares everything, and stores nothing."""

    @tracking.hookimpl
    @classmethod
    def tracking_adapter(cls):
        every = frozenset({*CORE_CAPABILITIES, *OPTIONAL_CAPABILITIES, "resume"})
        return tracking.AdapterInfo(name="boastful", api_version=1, capabilities=every, options={}, replaces="in place")


class BoastfulHarness(AdapterHarness):
    target = "boastful:{dir}"

    def plugin(self):
        return Boastful

    def read(self, directory, run):
        return Stored([], [], [], [], [], [], [], [], [], {}, {}, [])


@pytest.mark.system
def test_no_check_about_what_is_stored_passes_where_nothing_is():
    report = check_adapter(harness=BoastfulHarness())
    stored = {name for name in report.passed if name.partition(".")[0] not in {"discovery", "hygiene"}}
    assert stored == {
        "lifecycle.five_methods",
        "lifecycle.empty_run",
        "scalars.nothing_duplicated",
        "steps.order_kept",
        "artifacts.reference_returned",
        "resume.state_is_json",
        "faults.returns_in_time",
    }
    assert "hygiene.inputs_copied" in report.failed
    assert not report.skipped


class Undeclared(faults.Honest):
    """Leaves it to its methods what it can do."""

    @tracking.hookimpl
    @classmethod
    def tracking_adapter(cls):
        return tracking.AdapterInfo(name="undeclared", api_version=1)


@pytest.mark.system
def test_capabilities_that_are_not_declared_are_found_by_method():
    report = check_adapter(
        harness=faults.LinesHarness(Undeclared), checks=["config", "media", "histograms", "discovery"]
    )
    assert report.ok, str(report)
    assert "config.kept" in report.passed
    assert "media.image_shapes" in report.passed
    assert {"config.summary_kept", "media.tables_kept", "discovery.unknown_option_refused"} <= set(report.skipped)


class Overstated(faults.Honest):
    """Declares what it has no method for."""

    @tracking.hookimpl
    @classmethod
    def tracking_adapter(cls):
        return tracking.AdapterInfo(name="overstated", api_version=1, capabilities={"scalars", "tables"}, options={})


def test_a_declared_capability_without_a_method_is_found():
    report = check_adapter(harness=faults.LinesHarness(Overstated), checks=["discovery"])
    assert "has no log_table()" in report.failed["discovery.info_is_true"]


class HangsWhenOpened(faults.Honest):
    """Never opens."""

    released = threading.Event()

    @tracking.hookimpl
    @classmethod
    def open_tracker(cls, target, run):
        cls.released.wait(20)
        raise RuntimeError("released")


def test_a_check_that_hangs_is_given_up_and_says_where(tmp_path):
    harness = faults.LinesHarness(HangsWhenOpened)
    harness.check_limit = 0.3
    try:
        result = run_check(all_checks()["scalars.round_trip"], harness, tmp_path)
    finally:
        HangsWhenOpened.released.set()
    assert result.outcome == "failed"
    assert "did not end within 0.3 s" in result.message
    assert "cls.released.wait(20)" in result.message


class Exits(faults.Honest):
    """Ends the program when it is opened."""

    @tracking.hookimpl
    @classmethod
    def open_tracker(cls, target, run):
        raise KeyboardInterrupt if "keyboard" in target.path else SystemExit(3)


@pytest.mark.parametrize(("path", "message"), [("exit", "SystemExit: 3"), ("keyboard", "raised KeyboardInterrupt")])
def test_an_adapter_cannot_end_the_checks(tmp_path, path, message):
    harness = faults.LinesHarness(Exits)
    harness.target = f"exits:{{dir}}/{path}"
    result = run_check(all_checks()["scalars.round_trip"], harness, tmp_path)
    assert (result.outcome, result.message) == ("failed", message)


# -- check_adapter --------------------------------------------------------------------------------------------------------


def test_the_report_reads_well():
    report = check_adapter(harness=faults.harness(faults.Drops), checks=["scalars", "lifecycle.flush_any_time"])
    text = str(report)
    assert text.startswith("adapter 'drops': 12 passed, 1 failed, 1 skipped\n  FAILED   scalars.nothing_dropped\n")
    assert "missing: 2 of 500 rows: ['loss' at step 199: 49.75]" in text
    assert "look at how `finish` handles" in text
    assert "skipped  lifecycle.flush_any_time: the adapter does not declare the capability 'flush'" in text
    names = [result.name for result in report.results]
    assert names == ["lifecycle.flush_any_time", *(name for name in all_checks() if name.startswith("scalars."))]


def test_failures_raise_when_asked_to():
    with pytest.raises(ContractFailure, match=r"1 failed.*\n.*FAILED   steps.axes_kept"):
        check_adapter(harness=faults.harness(faults.IgnoresAxes), checks=["steps"], raise_on_failure=True)


def test_the_harness_comes_from_the_adapter():
    report = check_adapter("local", checks=["scalars.round_trip"])
    assert report.ok, str(report)
    assert report.adapter == "local"
    with pytest.raises(SettingsError, match="the adapter 'none' has no contract harness; pass harness="):
        check_adapter("none")
    with pytest.raises(UnknownAdapterError, match="no backend 'locl' is installed: did you mean 'local'"):
        check_adapter("locl")
    with pytest.raises(SettingsError, match="expected the name of an adapter, or a harness"):
        check_adapter()
    with pytest.raises(SettingsError, match="FakeHarness is the harness of 'fake', not of 'local'"):
        check_adapter("local", FakeHarness())


def test_a_path_of_the_user_is_left_alone(tmp_path):
    report = check_adapter(f"fake:{tmp_path}/mine", FakeHarness, checks=["scalars.round_trip"])
    assert report.ok, str(report)
    assert list(tmp_path.iterdir()) == []


def test_options_of_the_user_are_passed_on(tmp_path):
    report = check_adapter("fake?colour=red", FakeHarness(), checks=["discovery"])
    assert "has no option 'colour'" in report.failed["discovery.unknown_option_refused"]
    # A path with {dir} is taken; this harness reads in another place, and finds nothing there.
    placed = check_adapter("honest:{dir}/elsewhere", faults.harness(faults.Honest), ["scalars.round_trip"])
    assert list(placed.failed) == ["scalars.round_trip"]


def test_data_stays_where_it_is_asked_to(tmp_path):
    check_adapter(harness=faults.harness(faults.Honest), checks="scalars.round_trip", directory=tmp_path)
    [file] = tmp_path.rglob("*.jsonl")
    assert '"train/loss"' in file.read_text()


def test_an_unknown_check_is_refused():
    with pytest.raises(SettingsError, match="there is no check 'scalar': did you mean 'scalars'"):
        check_adapter(harness=FakeHarness(), checks=["scalar"])


# -- the pytest class -----------------------------------------------------------------------------------------------------

_SUITE = """
from tracking_core.testing import ContractSuite, faults

class Excused(faults.LinesHarness):
    expected_failures = {"resume.both_parts_kept": "keeps one part", "resume.media_kept": "never mind"}

class TestForgets(ContractSuite):
    harness = Excused(faults.ForgetsOnResume)

class TestNothing(ContractSuite):
    pass
"""


@pytest.mark.system
def test_the_pytest_class(tmp_path):
    (tmp_path / "test_suite.py").write_text(_SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-rxs", "-p", "no:cacheprovider", "--rootdir", str(tmp_path),
         "--continue-on-collection-errors", "-k", "resume or media or config", "test_suite.py"],
        capture_output=True, text=True, timeout=300, cwd=tmp_path,
    )  # fmt: skip
    assert "TestForgets::test_contract[resume.both_parts_kept] XFAIL" in done.stdout, done.stdout
    assert "- keeps one part" in done.stdout
    assert "TestForgets::test_contract[resume.media_kept] FAILED" in done.stdout
    assert "remove it from expected_failures" in done.stdout
    assert "TestForgets::test_contract[media.tables_kept] SKIPPED" in done.stdout
    assert "does not declare the capability 'tables'" in done.stdout
    assert "TestForgets::test_contract[config.kept] PASSED" in done.stdout
    assert "TestNothing needs a harness" in done.stdout + done.stderr


# -- trackers that fail during delivery -------------------------------------------------------------------------------


def test_raises():
    tracker = faults.Raises(methods=["log_scalars"])
    tracker.log_text("t", "x", step=1)
    with pytest.raises(RuntimeError, match="the backend is broken"):
        tracker.log_scalars({"loss": 1.0}, step=1)
    tracker.finish()
    assert [call.method for call in tracker.calls] == ["log_text", "finish"]
    assert tracker.attempts == 1
    with pytest.raises(OSError, match="disk"):
        faults.Raises(lambda: OSError("disk")).log_artifact({"x": b""}, name="x")


def test_raises_base_exceptions():
    with pytest.raises(faults.Interruption):
        faults.RaisesBaseException().log_scalars({"loss": 1.0}, step=1)
    assert not issubclass(faults.Interruption, Exception)
    with pytest.raises(SystemExit):
        faults.RaisesBaseException(lambda: SystemExit(1)).log_scalars({"loss": 1.0}, step=1)


def test_retries_then_works():
    tracker = faults.RetriesThenWorks(2, after=0.5)
    for _ in range(2):
        with pytest.raises(RetryLater) as caught:
            tracker.log_scalars({"loss": 1.0}, step=1)
        assert caught.value.after == 0.5
    tracker.log_scalars({"loss": 1.0}, step=1)
    assert tracker.scalars["loss"] == [(1, 1.0)]
    assert tracker.attempts == 3


def test_rejects():
    tracker = faults.Rejects(["bad"])
    tracker.log_scalars({"good": 1.0}, step=1)
    with pytest.raises(Rejected) as caught:
        tracker.log_scalars({"good": 2.0, "bad": 1.0}, step=2)
    assert caught.value.key == "bad"
    assert dict(tracker.scalars) == {"good": [(1, 1.0)]}
    with pytest.raises(Rejected):
        faults.Rejects().flush()


def test_hangs_until_it_is_released():
    tracker = faults.Hangs()
    thread = threading.Thread(target=tracker.log_scalars, args=({"loss": 1.0},), kwargs={"step": 1})
    thread.start()
    assert tracker.entered.wait(10)
    assert tracker.calls == []
    assert thread.is_alive()
    tracker.release()
    thread.join(10)
    assert tracker.scalars["loss"] == [(1, 1.0)]


def test_slow_arrives():
    tracker = faults.Slow(0.001)
    tracker.log_scalars({"loss": 1.0}, step=1)
    assert tracker.scalars["loss"] == [(1, 1.0)]
    assert isinstance(tracker, FakeTracker)
