"""Which backends there are: hooks, discovery, the grammar of targets, and what opens one."""
