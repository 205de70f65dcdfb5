"""The older name of `tracking_core.runs.health`."""

from tracking_core.runs.health import *  # noqa: F403 - all of it
