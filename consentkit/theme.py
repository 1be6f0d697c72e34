"""The colours of the banner and the pages, and the rules they must keep: readable, and no button above the other.

A theme is what the owner may change of the looks. It is checked before anything is served, in light and in dark,
since a banner that nobody can read or that lifts one answer above the other gathers no valid consent (EDPB Cookie
Banner Taskforce, 17 January 2023, sections 17 and 18; WCAG 2.2 criteria 1.4.3 and 1.4.11).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches

TEXT_CONTRAST = 4.5
"""WCAG 2.2, 1.4.3: text against what it stands on."""

CONTROL_CONTRAST = 3.0
"""WCAG 2.2, 1.4.11: a control's edge, and the mark of keyboard focus, against what is around it."""

MAX_DIFFERENCE = 0.2
"""How much accept and refuse may differ in contrast, as a part of the larger (CNIL 2020-092, section 34)."""

_COLOUR = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})\Z")
_RADIUS = re.compile(r"(?:0|(?:[0-9]|[12][0-9]|3[0-2])px|[0-2](?:\.[0-9]{1,2})?em)\Z")
_FONT = re.compile(r"[A-Za-z][A-Za-z0-9-]*(?: [A-Za-z0-9-]+)*(?:, ?[A-Za-z][A-Za-z0-9-]*(?: [A-Za-z0-9-]+)*)*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """The colours of one scheme, each `#rgb` or `#rrggbb`."""

    background: str
    text: str
    link: str
    focus: str
    border: str
    accept_background: str
    accept_text: str
    refuse_background: str
    refuse_text: str


LIGHT = Palette(
    background="#ffffff",
    text="#16202b",
    link="#0b5394",
    focus="#0b5394",
    border="#6b7785",
    accept_background="#12477d",
    accept_text="#ffffff",
    refuse_background="#12477d",
    refuse_text="#ffffff",
)
DARK = Palette(
    background="#18202a",
    text="#eef2f6",
    link="#a3cdff",
    focus="#a3cdff",
    border="#8c99a8",
    accept_background="#b9d9ff",
    accept_text="#0d1b2a",
    refuse_background="#b9d9ff",
    refuse_text="#0d1b2a",
)
_KEYS = tuple(field.name for field in fields(Palette))
_SHAPE = ("radius", "font")


@dataclass(frozen=True, slots=True)
class Theme:
    """How consentkit looks on one site.

    Args:
        light, dark: the colours of the two schemes.
        radius: of corners: `0`, `0px` to `32px`, or `0em` to `2.99em`.
        font: font families without quotes, separated by commas; `inherit` takes the site's own.
    """

    light: Palette = LIGHT
    dark: Palette = DARK
    radius: str = "12px"
    font: str = "system-ui, sans-serif"

    @classmethod
    def from_table(cls, table: Mapping[str, object]) -> Theme:
        """Read `[site.theme]`: the keys of `Palette`, `radius` and `font`, and the colours again under `dark`.

        What is left out stays as shipped. The values are judged by `problems`.

        Raises:
            ValueError: a key is unknown or a value is no text.
        """
        plain = {key: value for key, value in table.items() if key != "dark"}
        dark = table.get("dark", {})
        if not isinstance(dark, Mapping):
            raise ValueError('`theme.dark` must be a table of colours, such as dark = { background = "#18202a" }')
        _known("theme", plain, (*_KEYS, *_SHAPE, "dark"))
        _known("theme.dark", dark, _KEYS)
        colours = {key: str(value) for key, value in plain.items() if key in _KEYS}
        shape = {key: str(value) for key, value in plain.items() if key in _SHAPE}
        return replace(
            cls(),
            light=replace(LIGHT, **colours),
            dark=replace(DARK, **{key: str(value) for key, value in dark.items()}),
            **shape,
        )

    def problems(self) -> list[str]:
        """Everything that is wrong, one sentence each: the key, what was measured, what to do. Empty when fine."""
        found = [*_colours("theme", self.light), *_colours("theme.dark", self.dark)]
        if not _RADIUS.match(self.radius):
            found.append(f'`theme.radius`: "{self.radius}" is no radius; write 0 to 32 pixels, such as "12px"')
        if not _FONT.match(self.font):
            found.append(
                f'`theme.font`: "{self.font}" is no list of fonts; write names without quotes, separated by commas, '
                'such as "Open Sans, sans-serif"'
            )
        if not found:
            found = [*_judge("theme", self.light), *_judge("theme.dark", self.dark)]
        return found

    def css(self) -> str:
        """The theme as custom properties.

        Raises:
            ValueError: the theme has problems; nothing that isn't checked becomes part of a stylesheet.
        """
        if problems := self.problems():
            raise ValueError("; ".join(problems))
        shape = f"--consentkit-radius:{self.radius};--consentkit-font:{self.font}"
        return (
            f":root{{{_properties(self.light)};{shape}}}"
            f"@media (prefers-color-scheme:dark){{:root{{{_properties(self.dark)}}}}}"
        )


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _known(where: str, table: Mapping[str, object], keys: tuple[str, ...]) -> None:
    for key, value in table.items():
        if key not in keys:
            near = get_close_matches(key, keys, 1)
            hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(keys)}"
            raise ValueError(f"`{where}.{key}` is unknown; {hint}")
        if not isinstance(value, str):
            raise ValueError(f"`{where}.{key}` must be a text in quotes")


def _colours(where: str, palette: Palette) -> Iterator[str]:
    for key in _KEYS:
        value = getattr(palette, key)
        if not _COLOUR.match(value):
            yield f'`{where}.{key}`: "{value}" is no colour; write six hexadecimal digits, such as "#12477d"'


def _judge(where: str, palette: Palette) -> Iterator[str]:
    texts = (
        ("text", "background"),
        ("link", "background"),
        ("accept_text", "accept_background"),
        ("refuse_text", "refuse_background"),
    )
    for text, ground in texts:
        yield from _at_least(where, palette, text, ground, TEXT_CONTRAST)
    for control in ("focus", "border"):
        yield from _at_least(where, palette, control, "background", CONTROL_CONTRAST)
    for button in ("accept_background", "refuse_background"):
        yield from _at_least(where, palette, button, "background", CONTROL_CONTRAST)
    pairs = (
        ("the text on them", ("accept_text", "accept_background"), ("refuse_text", "refuse_background")),
        ("their colour on the background", ("accept_background", "background"), ("refuse_background", "background")),
    )
    for what, accept, refuse in pairs:
        ratios = [contrast(getattr(palette, a), getattr(palette, b)) for a, b in (accept, refuse)]
        if abs(ratios[0] - ratios[1]) / max(ratios) >= MAX_DIFFERENCE:
            yield (
                f"`{where}.{accept[0]}` and `{where}.{refuse[0]}`: accept and refuse are unequal, {what} has a "
                f"contrast of {ratios[0]:.2f} and {ratios[1]:.2f}, where they may differ by less than "
                f"{MAX_DIFFERENCE:.0%}; give both buttons the same colours"
            )


def _at_least(where: str, palette: Palette, key: str, ground: str, least: float) -> Iterator[str]:
    ratio = contrast(getattr(palette, key), getattr(palette, ground))
    if ratio < least:
        further = "darker" if _luminance(getattr(palette, ground)) > 0.18 else "lighter"
        yield (
            f"`{where}.{key}`: {getattr(palette, key)} on `{ground}` {getattr(palette, ground)} has a contrast of "
            f"{ratio:.2f}, and {least} is the least; make it {further}"
        )


def _properties(palette: Palette) -> str:
    return ";".join(f"--consentkit-{key.replace('_', '-')}:{getattr(palette, key).lower()}" for key in _KEYS)
