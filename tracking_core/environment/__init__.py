"""Where a run runs: settings, the hosts of a training, the machine and the repository."""
