"""A bar chart as numbers that a template draws: plain SVG, without script, style or anything that has to be fetched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 640
HEIGHT: Final = 220
_LEFT: Final = 100
_TOP: Final = 12
_BOTTOM: Final = 36
_LEAST_BAR: Final = 2.0
"""Units that the bar of a 1 is high at least: what is there can be seen."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: where it stands, and what it says."""

    x: float
    y: float
    width: float
    height: float
    said: str
    value: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A word at an axis: how far along it is, in units of the drawing."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing of `width` by `height` units: its bars, the marks of both axes, and where the ground is."""

    bars: Sequence[Bar]
    ticks: Sequence[Mark]
    marks: Sequence[Mark]
    left: float
    ground: float
    highest: int
    width: int = WIDTH
    height: int = HEIGHT


def bars(values: Sequence[int], said: Sequence[str], marks: Mapping[int, str]) -> Chart:
    """A chart of counts.

    Args:
        values: one for each bar, 0 and up. said: what each bar is of.
        marks: what stands below the axis, by the number of the bar.
    """
    top = ceiling(max(values, default=0))
    ground = HEIGHT - _BOTTOM
    room, pitch = ground - _TOP, (WIDTH - _LEFT) / max(len(values), 1)
    gap = min(16.0, pitch / 6)
    drawn = []
    for place, value in enumerate(values):
        high = max(value / top * room, _LEAST_BAR) if value else 0.0
        x, y = round(_LEFT + place * pitch + gap / 2, 2), round(ground - high, 2)
        drawn.append(Bar(x, y, round(pitch - gap, 2), round(high, 2), said[place], value))
    ticks = [Mark(round(ground - part * room / 2, 2), str(top * part // 2)) for part in range(3) if top * part % 2 == 0]
    below = [Mark(round(_LEFT + place * pitch, 2), text) for place, text in sorted(marks.items())]
    return Chart(drawn, ticks, below, _LEFT, ground, max(values, default=0))


def ceiling(value: int) -> int:
    """The least of 1, 2, 4, 5 and 10 times a power of ten that is no less: what an axis may end with."""
    power = 1
    while True:
        for step in (1, 2, 4, 5):
            if step * power >= value:
                return step * power
        power *= 10
