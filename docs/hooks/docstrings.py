"""Let mkdocstrings read the docstrings of memjax as they are written."""

import re

from griffe import ExprCall, Extension

_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
_RESULT = re.compile(r"^(Returns|Yields):\n( +)", re.MULTILINE)
_COMMENT = re.compile(r"\s#\s(.*)$")


class Docstrings(Extension):
    """Rename ``Example:``, give results their types, and list the fields of tuples."""

    def on_class(self, *, cls, **_) -> None:
        """Add what is said beside each field to the docstring of its class, which shows a table."""
        fields = []
        for name, field in cls.attributes.items():
            *_, last = getattr(getattr(field.annotation, "slice", None), "elements", [None])
            if isinstance(last, ExprCall) and last.canonical_path == "memjax.params.Number":
                default, least, most, meaning = map(str, last.arguments)
                field.annotation = field.annotation.slice.elements[0]
                text = f"{meaning[1:-1]}; default {default}, range {least} to {most}"
                fields.append(f"    {name}: {text.replace('math.', '')}")
            elif comment := _COMMENT.search(_line(field)):
                fields.append(f"    {name}: {comment[1]}")
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


def _line(field) -> str:
    return field.parent.module.lines_collection[field.filepath][field.lineno - 1]
