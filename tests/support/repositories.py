"""Calls git as somebody whose own configuration says nothing."""

from __future__ import annotations

import os
import subprocess


def git(cwd, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ("-c", "user.name=tester", "-c", "user.email=tester@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *who, *arguments], cwd=cwd, env=environment, check=True, capture_output=True, text=True, timeout=60
    ).stdout.strip()
