"""Config: values that describe the run as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracking_core.testing.contract.comparing import require_leaves
from tracking_core.testing.contract.registry import check

if TYPE_CHECKING:
    from tracking_core.testing.contract.context import Context


def _config() -> dict[str, Any]:
    return {
        "lr": 3e-4,
        "seed": 0,
        "jit": True,
        "name": "VAE größe",
        "notes": None,
        "model": {"width": 64, "layers": [16, 32], "norm": {"kind": "batch", "momentum": 0.5}},
    }


@check("config.kept", needs=("config",))
def kept(ctx: Context) -> None:
    """The configuration comes back: nested values under their path, numbers as numbers, the rest at least as text.

    It is given with the run, and again through `log_config`. If this fails, flatten mappings that the backend cannot
    nest, joined with "/" or ".", and write values without a type there as text.
    """
    run = ctx.new_run(config=_config())
    with ctx.tracker(run) as tracker:
        tracker.log_config(_config())
    require_leaves(ctx, ctx.facts(run, "config"), _config(), "the config value")


@check("config.changed_later", needs=("config",))
def changed_later(ctx: Context) -> None:
    """`log_config` adds to the configuration and changes it; entries that it does not name stay.

    If this fails, allow the change where the backend asks for permission, and merge rather than replace.
    """
    run = ctx.new_run(config=_config())
    with ctx.tracker(run) as tracker:
        tracker.log_config(_config())
        tracker.log_scalars({"loss": 0.5}, step=0)
        tracker.log_config({"lr": 0.125, "resumed_from": "checkpoint-3"})
    expected = {**_config(), "lr": 0.125, "resumed_from": "checkpoint-3"}
    require_leaves(ctx, ctx.facts(run, "config"), expected, "the config value")


@check("config.summary_kept", needs=("summary",))
def summary_kept(ctx: Context) -> None:
    """`log_summary` keeps one value per name, and the last one counts.

    If this fails, compare how the backend computes a summary of its own from the history.
    """
    run = ctx.new_run()
    with ctx.tracker(run) as tracker:
        tracker.log_summary({"best/accuracy": 0.5, "note": "first"})
        tracker.log_summary({"best/accuracy": 0.75})
    require_leaves(ctx, ctx.facts(run, "summary"), {"best/accuracy": 0.75, "note": "first"}, "the summary of")


@check("config.alerts_kept", needs=("alerts",))
def alerts_kept(ctx: Context) -> None:
    """An alert comes back with its title, text and level.

    If this fails, map the levels "info", "warn" and "error" to those of the backend.
    """
    run = ctx.new_run()
    alerts = [("diverged", "the loss is NaN at step 3", "error"), ("slow", "", "warn"), ("done", "after 3 h", "info")]
    with ctx.tracker(run) as tracker:
        for title, text, level in alerts:
            tracker.log_alert(title, text, level=level)
    stored = [tuple(alert) for alert in ctx.facts(run, "alerts")]
    for alert in alerts:
        ctx.require(alert in stored, f"the alert {alert!r} is missing; the backend holds {stored!r:.400}")
