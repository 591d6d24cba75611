"""Texts of others on their way to a person: an archive's words must not command the terminal that shows them."""

from __future__ import annotations

import re
from typing import Final

#: Control characters, and those that change the direction of what follows.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str, one_line: bool = False) -> str:
    """The text with each control character as an escape; with `one_line`, line feeds too become blanks."""
    if one_line:
        text = " ".join(text.splitlines()) if "\n" in text or "\r" in text else text
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
