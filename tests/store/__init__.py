"""Reading what was recorded: runs, series, artifacts, compaction and verification."""
