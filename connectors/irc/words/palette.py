"""The 99 colours of IRC."""

from __future__ import annotations

from functools import lru_cache

# https://modern.ircdocs.horse/formatting#colors-16-98
_BASIC = """
ffffff 000000 00007f 009300 ff0000 7f0000 9c009c fc7f00
ffff00 00fc00 009393 00ffff 0000fc ff00ff 7f7f7f d2d2d2
"""
_EXTENDED = """
470000 472100 474700 324700 004700 00472c 004747 002747 000047 2e0047 470047 47002a
740000 743a00 747400 517400 007400 007449 007474 004074 000074 4b0074 740074 740045
b50000 b56300 b5b500 7db500 00b500 00b571 00b5b5 0063b5 0000b5 7500b5 b500b5 b5006b
ff0000 ff8c00 ffff00 b2ff00 00ff00 00ffa0 00ffff 008cff 0000ff a500ff ff00ff ff0098
ff5959 ffb459 ffff71 cfff60 6fff6f 65ffc9 6dffff 59b4ff 5959ff c459ff ff66ff ff59bc
ff9c9c ffd39c ffff9c e2ff9c 9cff9c 9cffdb 9cffff 9cd3ff 9c9cff dc9cff ff9cff ff94d3
000000 131313 282828 363636 4d4d4d 656565 818181 9f9f9f bcbcbc e2e2e2 ffffff
"""

PALETTE: dict[int, str] = {i: f"#{value}" for i, value in enumerate(f"{_BASIC} {_EXTENDED}".split())}
"""Code -> "#rrggbb", 0 to 98; 99 is the reader's default and has none."""

_CODES: dict[str, int] = {}
for _code, _value in PALETTE.items():
    _CODES.setdefault(_value, _code)
_RGB = {code: tuple(int(value[i : i + 2], 16) for i in (1, 3, 5)) for value, code in _CODES.items()}


@lru_cache(maxsize=1024)
def nearest(color: str) -> int:
    """The code that comes nearest to "#rrggbb" for the eye; the same colour exactly where there is one."""
    color = color.lower()
    if color in _CODES:
        return _CODES[color]
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))

    # The "redmean" distance: cheap, and much nearer to the eye than plain RGB
    def distance(code: int) -> float:
        r, g, b = _RGB[code]
        mean = (red + r) / 2
        return (
            (2 + mean / 256) * (red - r) ** 2
            + 4 * (green - g) ** 2
            + (2 + (255 - mean) / 256) * (blue - b) ** 2
        )

    return min(_RGB, key=distance)
