"""The older name of `tracking_core.backends.null_adapter`: installations name it until they are renewed."""

from tracking_core.backends.null_adapter import *  # noqa: F403 - all of it
