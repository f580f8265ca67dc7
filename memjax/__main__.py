"""`python -m memjax` is the command `memjax`."""

from memjax.command.cli import main

if __name__ == "__main__":
    main()
