"""The older name of `tracking_core.backends.hooks`."""

from tracking_core.backends.hooks import *  # noqa: F403 - all of it
