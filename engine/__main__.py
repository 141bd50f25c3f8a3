"""`python -m engine` is the `ganger` command."""

from engine.cli import main

if __name__ == "__main__":
    main()
