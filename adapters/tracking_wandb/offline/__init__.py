"""W&B's offline directories: their log, the runs in it, and their import."""
