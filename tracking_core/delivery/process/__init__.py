"""The deliverer process: what the training talks to, what it runs, and delivery through it."""
