"""Small trackers that keep what they were called with."""

from __future__ import annotations

from tracking_core.values import ArtifactRef, to_scalars, to_step


class Five:
    """A tracker with the five methods and nothing else; it keeps what it was called with."""

    def __init__(self):
        self.calls = []

    def log_scalars(self, scalars, *, step, step_axis="step", wall_time=None):
        to_step(step)
        self.calls.append(("scalars", to_scalars(scalars), step, step_axis, wall_time))

    def log_images(self, images, *, step, step_axis="step", wall_time=None, value_range=None):
        self.calls.append(("images", dict(images), step, step_axis, wall_time, value_range))

    def log_histogram(self, name, values, *, step, step_axis="step", wall_time=None, bins=64):
        self.calls.append(("histogram", name, values, step, step_axis, wall_time, bins))

    def log_artifact(self, artifact, *, name=None, type="file", metadata=None, aliases=()):
        self.calls.append(("artifact", artifact, name, type, metadata, aliases))
        return ArtifactRef(name or "made", type, len(self.calls))

    def finish(self, status="finished", *, error=None):
        self.calls.append(("finish", status, error))


class Full(Five):
    """A tracker with every capability."""

    url = "http://there"

    def _media(self, name, value, *, step, step_axis="step", wall_time=None, **keywords):
        self.calls.append(("media", name, value, step, step_axis, wall_time, keywords))

    log_table = log_video = log_audio = log_text = log_figure = log_html = _media

    def log_config(self, config):
        self.calls.append(("config", dict(config)))

    def log_summary(self, summary):
        self.calls.append(("summary", dict(summary)))

    def log_alert(self, title, text="", *, level="info", wall_time=None):
        self.calls.append(("alert", title, text, level, wall_time))

    def use_artifact(self, artifact):
        self.calls.append(("use", artifact))
        return ArtifactRef(str(artifact))

    def flush(self):
        self.calls.append(("flush",))

    def deliver(self, records):
        self.calls.append(("deliver", len(records)))

    def log(self, values, step=None, *, step_axis="step"):
        self.calls.append(("log", dict(values), step, step_axis))
