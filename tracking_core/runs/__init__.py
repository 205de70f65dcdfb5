"""A run's life: it is started, resumed or forked, logged to, looked after and ended."""
