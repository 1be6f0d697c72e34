"""A theme is readable and fair, or it is refused with the figure that says why."""

from __future__ import annotations

import pytest

from consentkit.theme import DARK, LIGHT, Theme, contrast


@pytest.mark.checklist("ACC-03", "BAN-02")
def test_the_shipped_theme_is_fine_in_light_and_dark_and_both_answers_look_the_same() -> None:
    assert Theme().problems() == []
    for palette in (LIGHT, DARK):
        assert palette.accept_background == palette.refuse_background
        assert palette.accept_text == palette.refuse_text


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.checklist("ACC-03")
@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"text": "#999"}, ["theme.text", "2.85", "4.5", "darker"]),
        ({"link": "#6aa9ff"}, ["theme.link", "darker"]),
        ({"focus": "#ccc"}, ["theme.focus", "3.0"]),
        ({"border": "#eee"}, ["theme.border"]),
        ({"dark": {"text": "#444"}}, ["theme.dark.text", "lighter"]),
    ],
)
def test_a_colour_that_is_too_faint_is_named_with_the_measured_ratio_and_a_remedy(
    table: dict[str, object], named: list[str]
) -> None:
    problems = Theme.from_table(table).problems()

    assert len(problems) == 1
    assert all(word in problems[0] for word in named)


@pytest.mark.checklist("BAN-02", "ACC-03")
def test_a_refusal_that_is_paler_than_the_acceptance_is_refused() -> None:
    ghost = Theme.from_table({"refuse_background": "#767676", "refuse_text": "#fff"})

    assert any("unequal" in problem for problem in ghost.problems())
    with pytest.raises(ValueError, match="unequal"):
        ghost.css()


@pytest.mark.parametrize(
    "table",
    [
        {"text": "red"},
        {"text": "#12345"},
        {"text": "#000;}body{display:none"},
        {"text": "#000000\n"},
        {"text": "url(https://evil.example)"},
        {"radius": "1px;color:red"},
        {"radius": "99px"},
        {"font": "Arial;}*{display:none}"},
        {"font": "url(x)"},
        {"font": '"Open Sans'},
        {"dark": {"link": "expression(alert(1))"}},
    ],
)
def test_nothing_but_colours_radii_and_font_names_gets_into_the_stylesheet(table: dict[str, object]) -> None:
    theme = Theme.from_table(table)

    assert theme.problems()
    with pytest.raises(ValueError, match=r"theme\."):
        theme.css()


def test_an_unknown_key_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(ValueError, match="did you mean `accept_background`"):
        Theme.from_table({"accept_backgroud": "#000"})
    with pytest.raises(ValueError, match=r"theme\.dark\.radius"):
        Theme.from_table({"dark": {"radius": "3px"}})
    with pytest.raises(ValueError, match="text in quotes"):
        Theme.from_table({"text": 1})


def test_an_owners_theme_becomes_custom_properties() -> None:
    css = Theme.from_table({"link": "#004488", "radius": "0", "font": "Open Sans, sans-serif"}).css()

    assert "--consentkit-link:#004488" in css
    assert "--consentkit-radius:0;" in css
    assert "--consentkit-font:Open Sans, sans-serif" in css
    assert "prefers-color-scheme:dark" in css
