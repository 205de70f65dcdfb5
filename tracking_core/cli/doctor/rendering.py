"""Prints a diagnosis for people."""

from __future__ import annotations

from tracking_core.backends.hooks import Finding
from tracking_core.base.text import counted
from tracking_core.cli.doctor.report import SECTIONS, Diagnosis
from tracking_core.cli.output import STYLES, Output

_INDENT = 2
_REMEDY = _INDENT + len("warning  ")


def print_diagnosis(diagnosis: Diagnosis, *, advice: bool = False) -> None:
    """Print what was found, section by section, and at the end what is wrong.

    Args:
        diagnosis: What was found.
        advice: Whether to print what to do about common complaints as well.
    """
    output = Output()
    for section in SECTIONS:
        if section != SECTIONS[0]:
            output.line()
        output.line((section.capitalize(), "bold"))
        if section == "settings":
            _print_settings(output, diagnosis)
        elif section == "targets":
            _print_targets(output, diagnosis)
        elif section == "recent runs":
            _print_runs(output, diagnosis)
        for finding in diagnosis.findings[section]:
            _print_finding(output, finding)
    for one in diagnosis.advice if advice else ():
        output.heading(f"If {one.topic}")
        for text in one.seen:
            output.item("seen: ", text, indent=_INDENT)
        for text in one.remedies:
            output.item("-> ", text, indent=_INDENT)
    output.line()
    output.line(_verdict(diagnosis))
    wrong = [one for found in diagnosis.findings.values() for one in found if one.level != "ok"]
    for finding in sorted(wrong, key=lambda one: one.level != "error"):
        _print_finding(output, finding)
    if not advice:
        output.line(
            "tracking doctor --advice says what to do if logging is slow, something is missing or memory grows."
        )


def _print_settings(output: Output, diagnosis: Diagnosis) -> None:
    output.table(
        ("setting", "value", "from"),
        [
            (row.key, row.value or (f"({row.otherwise})" if row.otherwise else "-"), row.origin)
            for row in diagnosis.settings
        ],
    )
    output.line()


def _print_targets(output: Output, diagnosis: Diagnosis) -> None:
    rows = [(target.target, target.origin) for target in diagnosis.targets]
    rows += [
        (f"  {row.option}={row.value}", row.origin)
        for target in diagnosis.targets
        for row in target.options
        if row.origin != target.origin
    ]
    if rows:
        output.table(("target", "from"), rows)
        output.line()


def _print_runs(output: Output, diagnosis: Diagnosis) -> None:
    if diagnosis.runs:
        output.table(
            ("run", "name", "project", "status", "waiting"),
            [
                (run.id, run.name, run.project, run.status, str(sum(target.pending for target in run.targets)))
                for run in diagnosis.runs
            ],
        )
        output.line()


def _print_finding(output: Output, finding: Finding) -> None:
    output.item((f"{finding.level:<9}", STYLES[finding.level]), finding.message, indent=_INDENT)
    if finding.remedy:
        output.item("-> ", finding.remedy, indent=_REMEDY)


def _verdict(diagnosis: Diagnosis) -> tuple[str, str]:
    levels = [one.level for found in diagnosis.findings.values() for one in found]
    errors, warnings = levels.count("error"), levels.count("warning")
    level = "error" if errors else "warning" if warnings else "ok"
    if level == "ok":
        return "Everything is fine.", STYLES[level]
    return f"{counted(errors, 'error')}, {counted(warnings, 'warning')}:", STYLES[level]
