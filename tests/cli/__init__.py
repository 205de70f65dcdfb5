"""The command `tracking`."""
