"""The command `memjax`, and `python -m memjax`."""

import sys


def main() -> None:
    """Run the command; what takes long to import is imported once something has been said."""
    words = sys.argv[1:]
    if words[:1] == ["fit"] and "--json" not in words and sys.stderr.isatty():
        # It is written over by what comes next.
        print("\rstarting", end="", file=sys.stderr, flush=True)
    from memjax.command import cli

    cli.main(words)


if __name__ == "__main__":
    main()
