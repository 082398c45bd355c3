"""The command `proxywhirl`, which `python -m proxywhirl` is too.

What it needs is loaded where an interruption is seen to already: that takes most of a second.
"""

from __future__ import annotations

import sys
from typing import NoReturn

INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        from proxywhirl.cli.main import main as run  # noqa: PLC0415  # see above

        run()
    except KeyboardInterrupt:
        sys.stderr.write("proxywhirl: interrupted; what was done before that stays\n")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
