"""What ``memjax check`` does: a folder is checked whole, and what was checked is said."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from memjax import checkpoint
from memjax._files import SUMS_FILE, check_sums, read_sums
from memjax._orbax import NETWORK_FILE
from memjax._text import printable
from memjax.command import _runs as runs
from memjax.command.options import Check


def check_folder(options: Check) -> None:
    """Check the folder of a run or of a saved network, and print what was checked.

    Raises:
        ValueError: it is the folder of neither.
        SystemExit: with status 1, something in it is not as it was written, or cannot be.
    """
    folder, checked, fault = options.run, {}, None
    if runs.has_begun(folder):
        findings = _of_begun(folder)
    elif runs.has_ended(folder) or (folder / runs.NETWORK_FOLDER).is_dir():
        findings = _of_run(folder)
    elif (folder / NETWORK_FILE).is_file():
        findings = iter(checkpoint.check(folder).items())
    else:
        raise ValueError(f"run: expected the folder of a run or of a saved network, got {folder}.")
    try:
        for name, finding in findings:
            checked[name] = finding
            if not options.json:
                print(f"{name:>22}  {finding}")
    except (ValueError, TypeError, OSError, checkpoint.CheckpointError) as error:
        fault = printable(" ".join(str(error).split()))
    if options.json:
        found = {"run": str(folder), "is_whole": not fault, "checked": checked, "fault": fault}
        print(json.dumps(found, indent=1))
    elif fault:
        print(f"memjax: {fault}", file=sys.stderr)
    if fault:
        raise SystemExit(1)


def _of_run(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what was checked in a run that has ended, and what was found."""
    sums = read_sums(folder)
    check_sums(folder, sums)
    yield f"{SUMS_FILE} of the run", f"{len(sums)} files are as they were written"
    found = checkpoint.check(folder / runs.NETWORK_FOLDER)
    yield from found.items()
    record = runs.load(folder).record
    yield "class names", f"{len(record['class_names'])}, one for each class"
    if record.get("state_digest") != found["digest"]:
        raise ValueError(f"{folder}: expected the network of its record, by the state_digest.")
    yield "record", "that of this network, by the state_digest"


def _of_begun(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what was checked in a run that has not ended, and what was found."""
    _, command = runs.read_begun(folder)
    yield "options", f"those of {printable(str(command))}"
    for place in sorted(folder.glob(f"{runs.CHECKPOINTS_FOLDER}/*/{runs.NETWORK_FOLDER}")):
        yield place.parent.name, ", ".join(checkpoint.check(place).values())
