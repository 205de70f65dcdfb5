"""A run itself: settings, identity, environment, sessions and forks."""
