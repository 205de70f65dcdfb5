"""Prints a diagnosis for people."""

from __future__ import annotations

from tracking_core.backends.hooks import Finding
from tracking_core.cli.doctor.report import SECTIONS, Diagnosis
from tracking_core.cli.output import STYLES, Output

_INDENT = 2
_REMEDY = _INDENT + len("warning  ")


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print what was found, section by section, and how it ended."""
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
    for advice in diagnosis.advice:
        output.heading(f"If {advice.topic}")
        for text in advice.seen:
            output.item("seen: ", text, indent=_INDENT)
        for text in advice.remedies:
            output.item("-> ", text, indent=_INDENT)
    output.line()
    output.line(_verdict(diagnosis))


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
    return f"{_counted(errors, 'error')}, {_counted(warnings, 'warning')}.", STYLES[level]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
