"""``python -m daemon`` is ``millwatch``."""

from daemon.cli import main

if __name__ == "__main__":
    main()
