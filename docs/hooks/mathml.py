"""Write the formulas of a page as MathML, which browsers show without any script.

Without the package latex2mathml the page keeps the formulas as LaTeX, which can be read as well.
"""

import html
import re

try:
    from latex2mathml.converter import convert
except ImportError:
    convert = None

_FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', re.DOTALL)


def on_page_content(content: str, **_) -> str:
    """Replace what pymdownx.arithmatex marked; called by MkDocs for every page."""
    return _FORMULA.sub(_formula, content)


def _formula(match: re.Match[str]) -> str:
    latex = html.unescape(match[2]).strip()
    is_block = match[1] == "div"
    latex = latex.removeprefix("\\[" if is_block else "\\(")
    latex = latex.removesuffix("\\]" if is_block else "\\)").strip()
    if convert is None:
        return f"<code>{html.escape(latex)}</code>"
    formula = convert(latex, display="block" if is_block else "inline")
    return f'<{match[1]} class="arithmatex">{formula}</{match[1]}>'
