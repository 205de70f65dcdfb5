"""A run with values of every kind, for what is brought elsewhere and back."""

from __future__ import annotations

import numpy as np

import tracking_core as tracking


def pixels(height=6, width=5, channels=3):
    return np.arange(height * width * channels, dtype=np.uint8).reshape(height, width, channels)


def log_everything(run):
    rng = np.random.default_rng(2)
    for step in range(5):
        run.log_scalars({"loss": 1 / (step + 1), "odd": float("nan")}, step=step)
    run.log_scalars({"val/acc": 0.5}, step=1, step_axis="epoch")
    run.log_scalars({"loss": 0.25}, step=2, step_axis="epoch")
    run.log_images({"pics": [tracking.Image(pixels(), caption="one. *two*"), pixels()]}, step=3)
    run.log_histogram("weights", np.append(rng.normal(size=100), [np.nan, np.inf]), step=4)
    run.log_table("table", tracking.Table(["a", "b|"], [[1, "x|y"], [None, "z"]]), step=5)
    run.log_text("words", "a text\nof lines", step=6)
    run.log_audio("sound", tracking.Audio(np.arange(50, dtype=np.int16), 8000, caption="tone"), step=7)
    run.log_video("clip", np.stack([np.full((4, 4, 3), shade, np.uint8) for shade in (0, 128, 255)]), step=8)
    run.log_figure("figure", tracking.Figure(tracking.values.to_images("x", pixels())[0].png()), step=9)
    run.log_html("page", "<p>a <b>page</b> &amp; more</p>\n<script>0</script>", step=10)
    run.log_config({"added": {"deep": [1, 2]}})
    run.log_summary({"best": 0.25})
