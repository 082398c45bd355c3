"""`python -m proxywhirl` is the command `proxywhirl`."""

from proxywhirl.cli.main import main

main()
