"""Let mkdocstrings read the docstrings of memjax as they are written."""

import re

from griffe import Docstring, Extension

_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
_RESULT = re.compile(r"^(Returns|Yields):\n( +)", re.MULTILINE)
_COMMENT = re.compile(r"\s#\s(.*)$")


class Docstrings(Extension):
    """Rename ``Example:``, give results their types, and read comments beside fields."""

    def on_object(self, *, obj, **_) -> None:
        """Prepare the docstring of one object."""
        if obj.is_attribute and not obj.docstring and obj.parent.is_class and obj.lineno:
            lines = obj.parent.module.lines_collection[obj.filepath]
            if comment := _COMMENT.search(lines[obj.lineno - 1]):
                obj.docstring = Docstring(comment[1], parent=obj)
        if not obj.docstring:
            return
        text = _EXAMPLE.sub("Examples:", obj.docstring.value)
        if obj.is_function and obj.returns:
            # What comes back is told in sentences; without a type before them their first colon
            # would be read as the end of one.
            text = _RESULT.sub(rf"\1:\n\2{obj.returns}: ", text)
        obj.docstring.value = text
