"""Build the engines of a cascade for this machine: the same as ``millwatch build-engines``."""

import sys

from daemon.cli import main

if __name__ == "__main__":
    main(["build-engines", *sys.argv[1:]])
