"""Event files that somebody wrote, read back for import."""
