"""Let mkdocstrings read the docstrings of memjax as they are written."""

import re

from griffe import ExprCall, Extension

_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
_RESULT = re.compile(r"^(Returns|Yields):\n( +)", re.MULTILINE)
_COMMENT = re.compile(r"\s#\s(.*)$")


class Docstrings(Extension):
    """Rename ``Example:``, give results their types, and list the fields of classes."""

    def on_class(self, *, cls, **_) -> None:
        """Add what is said of each field to the docstring of its class, which shows a table."""
        said = {name: _said(field) for name, field in cls.attributes.items()}
        fields = [f"    {name}: {text}" for name, text in said.items() if text]
        if fields and cls.docstring:
            cls.docstring.value += "\n\nAttributes:\n" + "\n".join(fields)

    def on_object(self, *, obj, **_) -> None:
        """Prepare the docstring of one object."""
        if not obj.docstring:
            return
        text = _EXAMPLE.sub("Examples:", obj.docstring.value)
        if obj.is_function and obj.returns:
            # What comes back is told in sentences; without a type before them their first colon
            # would be read as the end of one.
            text = _RESULT.sub(rf"\1:\n\2{obj.returns}: ", text)
        obj.docstring.value = text


def _said(field) -> str:
    """Return what a comment, a declared number or a text below says of a field, and move it."""
    lines = field.parent.module.lines_collection[field.filepath]
    if comment := _COMMENT.search(lines[field.lineno - 1]):
        return comment[1]
    if "property" in field.labels:
        return ""
    *_, last = getattr(getattr(field.annotation, "slice", None), "elements", [None])
    if isinstance(last, ExprCall) and last.canonical_path == "memjax.params.Number":
        field.annotation = field.annotation.slice.elements[0]
        default, least, most, meaning = (str(part).strip("\"'") for part in last.arguments)
        return f"{meaning}; default {default}, range {least} to {most}".replace("math.", "")
    if not field.docstring:
        return ""
    text = " ".join(field.docstring.value.split()).replace("<", "&lt;")
    field.docstring = None
    return text
