"""A mailing is read from a folder or a form, and every mistake in it is named with its place and its remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consentkit.errors import MailingError
from consentkit.mailing.source import Draft, File, read_file, read_folder

TOML = """\
list = "nieuwsbrief"
subject = "Nieuws van oktober"
"""
PNG = b"\x89PNG\r\n\x1a\n"


def folder(path: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def problems(path: Path, files: Mapping[str, str | bytes], **options: Any) -> list[str]:
    with pytest.raises(MailingError) as caught:
        read_folder(folder(path, files), **options)
    return caught.value.problems


def refused(**given: Any) -> list[str]:
    with pytest.raises(MailingError) as caught:
        Draft.of(**{"list": "nieuwsbrief", "subject": "Nieuws", "html": "<p>Dag</p>", **given})
    return caught.value.problems


def test_a_folder_is_read_whole(tmp_path: Path) -> None:
    toml = """\
list = "nieuwsbrief"
subject = "Nieuws van oktober"
preheader = "De open dag is op 3 november"
purpose = "marketing"
sender = "De Linde <nieuws@delinde.example>"
reply_to = "post@delinde.example"
language = "nl"
fields = ["first_name"]
measured = true
attachments = ["Programma één.pdf"]

[defaults]
first_name = "lezer"

[where]
city = ["Utrecht", "Zeist"]
language = "nl"
"""
    html = '<p>Dag {{ first_name }}</p><img src="beeld/school.png" alt="De school">'

    draft = read_folder(
        folder(
            tmp_path,
            {
                "mailing.toml": toml,
                "mailing.html": html,
                "mailing.txt": "Dag {{ first_name }}",
                "beeld/school.png": PNG,
                "los.png": PNG,
                "Programma één.pdf": b"%PDF",
            },
        )
    )

    assert draft == Draft(
        list="nieuwsbrief",
        subject="Nieuws van oktober",
        preheader="De open dag is op 3 november",
        html=html,
        text="Dag {{ first_name }}",
        purpose="marketing",
        sender="De Linde <nieuws@delinde.example>",
        reply_to="post@delinde.example",
        language="nl",
        fields=("first_name",),
        defaults={"first_name": "lezer"},
        where={"city": ("Utrecht", "Zeist"), "language": ("nl",)},
        files=(
            File("Programma één.pdf", "application/pdf", False, b"%PDF"),
            File("beeld/school.png", "image/png", True, PNG),
        ),
        measured=True,
    )
    assert draft.needed == ()


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("mailing.md", "![De school](school.png)"),
        (
            "mailing.mjml",
            "<mjml><mj-body><mj-section><mj-column>"
            '<mj-image src="school.png" alt="De school" /></mj-column></mj-section></mj-body></mjml>',
        ),
        ("mailing.html", "<div style=\"background:url('school.png')\">Dag</div>"),
    ],
)
def test_an_image_that_a_template_names_is_attached(tmp_path: Path, name: str, source: str) -> None:
    draft = read_folder(folder(tmp_path, {"mailing.toml": TOML, name: source, "school.png": PNG}))

    assert draft.files == (File("school.png", "image/png", True, PNG),)
    assert draft.markup == name.partition(".")[2]


def test_one_file_and_options_make_a_draft_with_the_images_beside_it(tmp_path: Path) -> None:
    place = folder(tmp_path, {"brief.md": "![x](a.png)", "brief.txt": "Dag", "a.png": PNG})

    draft = read_file(place / "brief.md", text=place / "brief.txt", list="nieuwsbrief", subject="Nieuws")

    assert draft == Draft.of(
        list="nieuwsbrief",
        subject="Nieuws",
        html="![x](a.png)",
        file="brief.md",
        text="Dag",
        files=(File("a.png", "image/png", True, PNG),),
    )


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            {"mailing.toml": TOML + 'subjet = "x"\n'},
            "mailing.toml:3: unknown key `subjet`: did you mean `subject`?",
        ),
        (
            {"mailing.toml": TOML + "measured = 1\n"},
            "mailing.toml:3: measured: write something such as measured = true or false",
        ),
        (
            {"mailing.toml": 'subject = "x"\n'},
            'mailing.toml: list is missing: write list = "nieuwsbrief"',
        ),
        (
            {"mailing.toml": "list = \n"},
            "mailing.toml: can't be read as TOML: Invalid value (at line 1, column 8)",
        ),
        (
            {"mailing.toml": TOML + 'sender = "nieuws@delinde.example"\n'},
            "mailing.toml:3: sender: names nobody: write one such as De Linde <nieuws@delinde.example>",
        ),
        (
            {"mailing.toml": TOML + '\n[defaults]\nsubject = "x"\n'},
            "mailing.toml:4: defaults: `subject` is given by consentkit: leave it out, or give the field another name",
        ),
        (
            {"mailing.toml": TOML + 'attachments = ["../geheim.pdf"]\n'},
            "mailing.toml:3: '../geheim.pdf' lies outside of the folder: put the attachment in it",
        ),
        (
            {"mailing.toml": TOML + 'attachments = ["weg.pdf"]\n'},
            "mailing.toml:3: there is no attachment 'weg.pdf' in the folder: put it there, or mend the name",
        ),
        (
            {"mailing.toml": TOML + 'attachments = ["map/a.pdf"]\n', "map/a.pdf": b"%PDF"},
            "mailing.toml:3: 'map/a.pdf' has a slash in it: put the attachment beside mailing.toml",
        ),
        (
            {"mailing.html": '<p>Dag</p>\n<img src="weg.png">'},
            "mailing.html:2: there is no image 'weg.png' in the folder: put it there, or mend the name",
        ),
        (
            {"mailing.html": '<img src="logo.svg">', "logo.svg": "<svg/>"},
            "mailing.html:1: 'logo.svg' is no image that mail programs show: make it a PNG, JPEG, GIF or WebP",
        ),
        (
            {"mailing.html": "<p>Dag</p>", "mailing.md": "Dag"},
            "post: needs one template and has 2: write mailing.html or mailing.mjml or mailing.md",
        ),
        ({"mailing.html": b"\xff"}, "mailing.html: is not UTF-8: save it as UTF-8"),
    ],
)
def test_a_mistake_in_a_folder_is_told_with_its_place(
    tmp_path: Path, files: Mapping[str, str | bytes], told: str
) -> None:
    assert problems(tmp_path / "post", {"mailing.toml": TOML, "mailing.html": "<p>Dag</p>", **files}) == [told]


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "geheim.pdf").write_bytes(b"%PDF")
    place = folder(
        tmp_path / "post", {"mailing.toml": TOML + 'attachments = ["a.pdf"]\n', "mailing.html": "<p>Dag</p>"}
    )
    (place / "a.pdf").symlink_to(tmp_path / "geheim.pdf")

    assert problems(place, {}) == ["mailing.toml:3: 'a.pdf' leads out of the folder: put the attachment itself in it"]


def test_files_have_a_limit_in_megabytes(tmp_path: Path) -> None:
    files = {
        "mailing.toml": TOML + 'attachments = ["a.pdf"]\n',
        "mailing.html": "<p>Dag</p>",
        "a.pdf": bytes(1_300_000),
    }

    assert problems(tmp_path, files, attachments_mb=1) == [
        "files: attachments and images have 1.2 MB, and 1 MB is the most ([mailing] attachments_mb): "
        "put what is large on your site and link to it"
    ]
    assert read_folder(tmp_path, attachments_mb=2).files[0].name == "a.pdf"


@pytest.mark.parametrize("bad", ["Nieuws\r\nBcc: boef@elders.example", "Nieuws\n", "Nieuws\x00", "Nieuws\u2028"])
@pytest.mark.parametrize("key", ["list", "subject", "preheader", "sender", "reply_to", "language", "file"])
def test_nothing_that_becomes_a_header_has_a_line_break_in_it(key: str, bad: str) -> None:
    assert refused(**{key: bad}) == [
        f"{key}: has a line break or another control character, and nothing in a header may have one"
    ]


@pytest.mark.parametrize("name", ["a\r\nb.pdf", "a/b.pdf", "..", "a\\b.pdf", "", "a\u2029.pdf"])
def test_a_dangerous_name_of_a_file_is_refused(name: str) -> None:
    (problem,) = refused(files=(File(name, "application/pdf", False, b"%PDF"),))

    assert problem.startswith("files: ")
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"subject": " "}, 'subject: is missing: write what it is about, such as "Nieuws van oktober"'),
        ({"subject": "Dag {{ first_name }}"}, "subject: is the same for everybody: write it without {{ }}"),
        ({"html": " "}, "html: is empty: write mailing.html or mailing.mjml or mailing.md"),
        (
            {"purpose": "reclame"},
            'purpose: must be "marketing", or "service" for what people need to know and can\'t opt out of',
        ),
        (
            {"sender": "De Linde <geen adres>"},
            "sender: has no address that mail can be sent to: write one such as De Linde <nieuws@delinde.example>",
        ),
        ({"fields": ("First name",)}, "fields: 'First name' is no field: write small letters, digits and underscores"),
        ({"where": {"city": ()}}, "where: `city` has no value: name those that are meant, or leave it out"),
    ],
)
def test_a_mistake_in_a_form_is_told_with_its_key_and_quotes_no_address(given: Any, told: str) -> None:
    assert refused(**given) == [told]


def test_a_form_s_templates_are_checked_too() -> None:
    assert refused(html="<p>\n{{ firstname }}</p>", fields=("first_name",)) == [
        "mailing.html:2: nothing is called `firstname`: did you mean `first_name`?"
    ]


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
words = st.sampled_from(["first_name", "city", "club"])


@given(
    html=texts.filter(str.strip),
    text=texts,
    defaults=st.dictionaries(words, texts, max_size=2),
    where=st.dictionaries(words, st.lists(texts, min_size=1, max_size=2).map(tuple), max_size=2),
    measured=st.booleans(),
)
def test_a_draft_is_kept_as_json_and_comes_back_the_same(
    html: str, text: str, defaults: Any, where: Any, measured: bool
) -> None:
    file = File("a.pdf", "application/pdf", False, b"%PDF")
    draft = Draft(
        list="l", subject="s", html=html, text=text, defaults=defaults, where=where, measured=measured, files=(file,)
    )

    assert Draft.from_json(draft.to_json(), (file,)) == draft
    assert Draft.from_json(draft.to_json()) == replace(draft, files=())
