"""The command, run in this process, and the pictures of its runs left empty."""

import contextlib
import io
from collections.abc import Iterable

import pytest

from memjax import plotting


def run_command(*arguments: str) -> tuple[int, str, str]:
    """The status of the command, and what it and its threads print."""
    from memjax.command import cli

    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(list(arguments))
        except SystemExit as ended:
            status = ended.code
    return int(status or 0), out.getvalue(), err.getvalue()


def leave_pictures_empty(
    patch: pytest.MonkeyPatch, names: Iterable[str] = ("memories", "growth", "confusion")
) -> None:
    """Draw nothing: that takes longer than a small run does."""
    from matplotlib.figure import Figure

    for name in names:
        patch.setattr(plotting, name, lambda *_, **__: Figure((1, 1)))
