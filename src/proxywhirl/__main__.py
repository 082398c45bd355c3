"""The command `proxywhirl`, which `python -m proxywhirl` is too.

What it needs is loaded where an interruption is seen to already, since that takes a moment; `--version` needs nothing.
"""

from __future__ import annotations

import gc
import sys

from proxywhirl import TYPE_CHECKING, __version__

if TYPE_CHECKING:
    from typing import NoReturn

INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    gc.disable()  # until a command begins: what is loaded stays
    try:
        if sys.argv[1:] == ["--version"] and _printed(f"proxywhirl, version {__version__}"):
            sys.exit(0)
        from proxywhirl.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("proxywhirl: interrupted; what was done before that stays\n")
        sys.exit(INTERRUPTED)
    finally:
        gc.freeze()  # the end comes sooner where nothing is searched for what could be collected


def _printed(line: str) -> bool:
    """Print a line; return False where stdout does not take it, which the command line knows how to tell."""
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except (AttributeError, OSError):  # the former: there is no stdout
        return False
    return True


if __name__ == "__main__":
    main()
