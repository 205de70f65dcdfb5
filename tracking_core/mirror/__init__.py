"""Mirrors: a copy of the run store in a bucket or on another disk, kept up while runs go on, and read like a root.

A mirror has the layout of a root. `process` is what uploads, and `training` what a run knows of it; `cache` is how a
mirror is read: through a local copy, which is a root in its turn.
"""
