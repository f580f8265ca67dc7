"""Text that a terminal may show; no package is imported here."""


def printable(text: str, most: int = 2000) -> str:
    r"""Return the beginning of a text, with escapes such as ``\n`` for what steers a terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text[:most]
    )
