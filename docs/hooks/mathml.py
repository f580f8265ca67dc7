"""Write the formulas of a page as MathML, which browsers show without any script.

A formula that cannot be written so fails the build, and so does one that nobody took for a formula.
"""

import html
import re

from math_core import LatexError, LatexToMathML
from mkdocs.exceptions import PluginError

_FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)
_NO_TEXT = re.compile(r"<(code|pre)\b.*?</\1>|<[^>]*>", re.DOTALL)
_LEFTOVER = re.compile(r"\\\w+|\$[^$\n]+\$")
_converter = LatexToMathML(fancy_error=False)


def on_page_content(content: str, page, **_) -> str:
    """Replace what pymdownx.arithmatex marked; called by MkDocs for every page."""
    try:
        content = _FORMULA.sub(_mathml, content)
    except LatexError as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from None
    if leftover := _LEFTOVER.search(html.unescape(_NO_TEXT.sub("", content))):
        raise PluginError(f"{page.file.src_uri}: {leftover[0]} would be shown as it is written.")
    return content


def _mathml(match: re.Match[str]) -> str:
    tag = match[1]
    latex = html.unescape(match[2]).strip()[2:-2]  # between \( and \), or \[ and \]
    formula = _converter.convert_with_local_state(latex, displaystyle=tag == "div")
    return f'<{tag} class="arithmatex">{formula}</{tag}>'
