"""Let mkdocstrings read the section ``Example:``, which it knows as ``Examples:`` only."""

import re

from griffe import Extension

_HEADING = re.compile(r"^Example:$", re.MULTILINE)


class Examples(Extension):
    """Rename the section in every docstring."""

    def on_object(self, *, obj, **_) -> None:
        """Rename it in the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = _HEADING.sub("Examples:", obj.docstring.value)
