"""`python -m edgepatch`: the command line."""

from edgepatch.cli import main

if __name__ == "__main__":  # measuring memory starts fresh processes, which import this again
    main()
