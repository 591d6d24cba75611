"""Text from outside, made safe to show: an archive's text must not control the terminal."""

from __future__ import annotations

import re
from typing import Final

#: Control characters, and characters that change the direction of the text after them.
_CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def printable(text: str, one_line: bool = False) -> str:
    """The text with each control character as an escape; with `one_line`, line feeds too become blanks."""
    if one_line:
        text = " ".join(text.splitlines()) if "\n" in text or "\r" in text else text
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
