"""Intake: every value is made safe to read later, and written down as an event."""

from tracking_core.intake.recorder import Recorder

__all__ = ["Recorder"]
