"""The older name of `tracking_core.intake.local_adapter`: installations name it until they are renewed."""

from tracking_core.intake.local_adapter import *  # noqa: F403 - all of it
