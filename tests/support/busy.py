"""Runs a command beside busy loops: `python -m tests.support.busy 12 -- pytest …`.

No test may fail because the machine is busy. Those that were most likely to are run this way too.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

LOOP = "import os\nwhile os.getppid() == {parent}: [0] * 1000"


def main(arguments: list[str]) -> int:
    count, separator, *command = arguments
    if separator != "--" or not command:
        raise SystemExit("usage: python -m tests.support.busy COUNT -- COMMAND…")
    with contextlib.ExitStack() as stack:
        for _ in range(int(count)):
            # They end with this process, however that ends.
            loop = subprocess.Popen([sys.executable, "-S", "-c", LOOP.format(parent=os.getpid())])
            stack.callback(loop.wait)
            stack.callback(loop.kill)
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
