"""The command `memjax`, and `python -m memjax`."""

import sys


def main() -> None:
    """Run the command; what takes long to import is imported once something has been said."""
    is_heard = sys.stderr.isatty() and "--json" not in sys.argv
    if is_heard:
        print("starting", end="", file=sys.stderr, flush=True)
    from memjax.command import cli
    from memjax.command._compiled import keep_compiled

    keep_compiled()
    if is_heard:  # wiped off
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    cli.main()


if __name__ == "__main__":
    main()
