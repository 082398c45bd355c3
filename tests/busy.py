"""Run the tests on a busy machine: no result may depend on how fast it is.

`python tests/busy.py OPTIONS-OF-PYTEST` runs pytest twice: beside four processes that never rest, and then, without
them, at the lowest priority. It exits with the first code that is not 0.
"""

from __future__ import annotations

import os
import subprocess
import sys

LOOPS = 4
LOWEST_PRIORITY = 19


def run(options: list[str], *, loops: int, niceness: int) -> int:
    """Run pytest beside some endless loops; return its exit code.

    A loop waits for nothing, so it ends by signal; each has this process as its parent and dies with the run.
    """
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        command = [sys.executable, "-m", "pytest", *options]
        return subprocess.run(command, check=False, preexec_fn=lambda: os.nice(niceness)).returncode
    finally:
        for process in busy:
            process.kill()
            process.wait()


if __name__ == "__main__":
    code = run(sys.argv[1:], loops=LOOPS, niceness=0)
    sys.exit(code or run(sys.argv[1:], loops=0, niceness=LOWEST_PRIORITY))
