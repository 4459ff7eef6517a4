"""Letters in pictures: the fonts that are there, and texts that they can show.

The font that matplotlib brings has no Hangul; without one, pictures show ASCII alone, not boxes.
"""

import functools

BROUGHT = "DejaVu Sans"
HANGUL = (
    "NanumGothic",
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "Malgun Gothic",
    "AppleGothic",
    "Apple SD Gothic Neo",
    "NanumBarunGothic",
    "UnDotum",
    "Baekmuk Dotum",
)


@functools.cache
def families() -> list[str]:
    """Fonts to take letters from, the first that has one: matplotlib's own, then one of Hangul."""
    from matplotlib import font_manager

    there = {font.name for font in font_manager.fontManager.ttflist}
    return [BROUGHT, *[name for name in HANGUL if name in there][:1]]


def readable(text: str) -> str:
    """The text, if its letters can be drawn; else a question mark for each that cannot."""
    if len(families()) > 1:
        return text
    return "".join(letter if letter.isascii() else "?" for letter in text)
