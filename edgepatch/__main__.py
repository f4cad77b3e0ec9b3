"""`python -m edgepatch`: the command line."""

from edgepatch.cli import main

main()
