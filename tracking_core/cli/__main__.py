"""`python -m tracking_core.cli`, for where the command itself is not on PATH."""

from tracking_core.cli import main

main()
