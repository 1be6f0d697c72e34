"""A mailing is written over days, by several people, before it is one: nothing is lost and nothing overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consentkit.errors import MailingError
from consentkit.mailing import DraftConflict, Drafts, File, MailingState, Problem, Sketch
from tests.mailing.school import draft
from tests.newsletter import desk as desks
from tests.newsletter.desk import Desk

SITE = "Basisschool De Linde"
WHOLE = Sketch(list="nieuwsbrief", subject="Feest", body="Dag {{ name }}", fields=("name",), defaults={"name": "lezer"})
PDF = File("programma.pdf", "application/pdf", False, b"%PDF")
PNG = File("foto.png", "image/png", True, b"\x89PNG\r\n\x1a\n")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desks.desk(tmp_path_factory.mktemp("desk")) as made:
        yield made


@pytest.fixture
def drafts(desk: Desk) -> Drafts:
    return desk.kit.drafts


def codes(error: MailingError) -> list[str]:
    return [problem.code for problem in error.problems if isinstance(problem, Problem)]


def test_a_draft_is_kept_as_it_was_written_complete_or_not(drafts: Drafts) -> None:
    id = drafts.make(SITE, Sketch(body="Dag"), "Anna")

    assert drafts.save(id, Sketch(list="agenda", subject="Nieuws", body=""), "Bas", 1, add=[PDF, PNG]) == 2

    kept = drafts.get(id)
    assert (kept.sketch, kept.title) == (Sketch(list="agenda", subject="Nieuws", body=""), "Nieuws")
    assert (kept.version, kept.editors, kept.saved_by, kept.files) == (2, ("Anna", "Bas"), "Bas", (PNG, PDF))


def test_a_draft_is_kept_the_same_on_either_database(both: Desk) -> None:
    drafts = both.kit.drafts
    id = drafts.make(SITE, WHOLE, "Anna", [PDF])
    drafts.save(id, WHOLE, "Bas", 1, add=[PNG], remove=["programma.pdf"])

    with pytest.raises(DraftConflict):
        drafts.save(id, WHOLE, "Carla", 1)
    mailing = drafts.ready(id, "Bas")

    found = drafts.of_mailing(mailing)
    assert found is not None
    assert (found.id, found.editors, drafts.get(id).files) == (id, ("Anna", "Bas"), (PNG,))
    assert [each.id for each in drafts.open("feest")] == []


def test_who_saves_what_another_changed_meanwhile_overwrites_nothing_and_gets_to_see_it(drafts: Drafts) -> None:
    id = drafts.make(SITE, WHOLE, "Anna")
    drafts.save(id, Sketch(subject="Van Bas"), "Bas", 1)

    with pytest.raises(DraftConflict) as caught:
        drafts.save(id, Sketch(subject="Van Anna"), "Anna", 1, remove=["foto.png"])

    assert caught.value.theirs == drafts.get(id)
    assert drafts.get(id).title == "Van Bas"


@pytest.mark.parametrize(
    ("sketch", "files", "code"),
    [
        (Sketch(subject="Nieuws\r\nBcc: boef@elders.example"), (), "control"),
        (Sketch(body="<script>x</script>", markup="html"), (), "script"),
        (Sketch(body="{{ naam }}"), (), "name_unknown"),
        (Sketch(text="{% if"), (), "syntax"),
        (Sketch(list="weg"), (), "list_unknown"),
        (Sketch(list="agenda", sender="Boef <boef@elders.example>"), (), "sender_domain"),
        (Sketch(), (File("groot.pdf", "application/pdf", False, bytes(6_000_000)),), "files_large"),
    ],
)
def test_what_could_never_be_sent_is_not_kept(drafts: Drafts, sketch: Sketch, files: Any, code: str) -> None:
    id = drafts.make(SITE, WHOLE, "Anna")

    with pytest.raises(MailingError) as caught:
        drafts.save(id, sketch, "Anna", 1, add=files)

    assert codes(caught.value) == [code]
    assert drafts.get(id).sketch == WHOLE


def test_an_image_that_is_still_to_come_keeps_nobody_from_saving_but_from_putting_ready(drafts: Drafts) -> None:
    sketch = Sketch(list="agenda", subject="Foto", body="![De school](foto.png)")
    id = drafts.make(SITE, WHOLE, "Anna")
    drafts.save(id, sketch, "Anna", 1)

    with pytest.raises(MailingError) as caught:
        drafts.ready(id, "Anna")

    assert codes(caught.value) == ["image_missing"]
    drafts.save(id, sketch, "Anna", 2, add=[PNG])
    assert drafts.ready(id, "Anna") > 0


def test_a_draft_that_was_put_ready_is_one_mailing_and_can_t_be_written_on(desk: Desk, drafts: Drafts) -> None:
    id = drafts.make(SITE, WHOLE, "Anna", [PDF])

    mailing = drafts.ready(id, "Bas")

    assert drafts.ready(id, "Bas") == mailing
    assert desk.kit.mailings.get(mailing).state is MailingState.DRAFT
    assert desk.kit.mailings.written(mailing) == (SITE, WHOLE.draft([PDF]))
    assert drafts.get(id).editors == ("Anna", "Bas")
    with pytest.raises(MailingError, match="was put ready or thrown away"):
        drafts.save(id, WHOLE, "Anna", 1)


def test_what_is_not_complete_is_not_put_ready_and_every_gap_is_told(drafts: Drafts) -> None:
    id = drafts.make(SITE, Sketch(), "Anna")

    with pytest.raises(MailingError) as caught:
        drafts.ready(id, "Anna")

    assert codes(caught.value) == ["list_missing", "subject_missing", "html_missing"]
    assert drafts.get(id).mailing_id is None


def test_a_mailing_that_nobody_released_can_be_written_on_again(desk: Desk, drafts: Drafts) -> None:
    id = drafts.make(SITE, WHOLE, "Anna")
    mailing = drafts.ready(id, "Anna")

    assert drafts.reopen(mailing, "Bas") == id

    kept = drafts.get(id)
    assert desk.kit.mailings.get(mailing).state is MailingState.CANCELLED
    assert (kept.open, kept.version, kept.editors) == (True, 2, ("Anna", "Bas"))
    assert drafts.ready(id, "Anna") > mailing


def test_a_mailing_that_is_further_can_t_be_written_on_again(desk: Desk, drafts: Drafts) -> None:
    mailing = drafts.ready(drafts.make(SITE, WHOLE, "Anna"), "Anna")
    desk.kit.mailings.cancel(mailing)

    with pytest.raises(MailingError, match="it is cancelled, and only a draft can be written on"):
        drafts.reopen(mailing, "Anna")


def test_one_begins_with_an_earlier_draft_or_with_a_mailing_wherever_it_was_made(desk: Desk, drafts: Drafts) -> None:
    first = drafts.make(SITE, WHOLE, "Anna", [PDF])
    made = draft(where={"city": ("Utrecht",)}, defaults={"name": ""}, files=(PDF,))
    mailing = desk.kit.mailings.new(made)

    of_draft, of_mailing = drafts.get(drafts.copy("Bas", draft=first)), drafts.get(drafts.copy("Bas", mailing=mailing))

    assert (of_draft.sketch, of_draft.files, of_draft.editors) == (WHOLE, (PDF,), ("Anna", "Bas"))
    assert of_mailing.sketch.draft(of_mailing.files) == made


def test_who_wrote_what_nobody_released_yet_wrote_a_copy_of_it_too(desk: Desk, drafts: Drafts) -> None:
    mailing = drafts.ready(drafts.make(SITE, WHOLE, "Anna"), "Anna")

    waiting = drafts.get(drafts.copy("Bas", mailing=mailing))
    desk.kit.mailings.cancel(mailing)
    over = drafts.get(drafts.copy("Bas", mailing=mailing))

    assert (waiting.editors, over.editors) == (("Anna", "Bas"), ("Bas",))


def test_what_was_thrown_away_can_be_put_back_for_thirty_days(desk: Desk, drafts: Drafts) -> None:
    back, gone = drafts.make(SITE, WHOLE, "Anna"), drafts.make(SITE, WHOLE, "Anna", [PDF])
    for id in (back, gone):
        drafts.throw_away(id, "Anna")
    later = desk.kit.now() + timedelta(days=30)

    drafts.put_back(back)

    assert drafts.get(back).open
    assert drafts.purge(later - timedelta(seconds=1)) == 0
    assert (drafts.purge(later, dry_run=True), drafts.purge(later), drafts.purge(later)) == (1, 1, 0)
    with pytest.raises(MailingError, match=f"there is no draft {gone}"):
        drafts.get(gone)


def test_open_drafts_are_paged_the_newest_first_and_found_by_words_of_their_title(drafts: Drafts) -> None:
    ids = [drafts.make(SITE, Sketch(subject=f"Zoek 100% {n}"), "Anna") for n in range(4)]
    drafts.throw_away(ids[3], "Anna")

    assert [each.id for each in drafts.open("ZOEK", most=2)] == [ids[2], ids[1]]
    assert [each.id for each in drafts.open("zoek", before=ids[1])] == [ids[0]]
    assert [each.id for each in drafts.open("zoek", after=ids[0], most=1)] == [ids[1]]
    assert [each.id for each in drafts.open("100% 2")] == [ids[2]]
    assert drafts.open("100_") == []


def test_a_preview_in_a_browser_has_the_attached_images_in_it(desk: Desk) -> None:
    sketch = Sketch(list="nieuwsbrief", subject="Foto", body="![De school](foto.png)")

    preview = desk.kit.mailings.preview_of(sketch.draft([PNG]), SITE)

    assert 'src="cid:' in preview.html
    assert 'src="data:image/png;base64,iVBORw0KGgo="' in preview.shown


def test_somebody_made_up_can_lack_what_has_a_text_instead(desk: Desk) -> None:
    mailings, made = desk.kit.mailings, WHOLE.draft()

    full, sparse = (mailings.preview_of(made, SITE, reader=mailings.sample(made, sparse=lacks)) for lacks in (0, 1))

    assert ("Dag Anna" in full.text, "Dag lezer" in sparse.text) == (True, True)


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
words = st.sampled_from(["first_name", "city", "club"])


@given(
    body=texts,
    fields=st.lists(words, max_size=3).map(tuple),
    defaults=st.dictionaries(words, texts, max_size=2),
    where=st.dictionaries(words, st.lists(texts, max_size=2).map(tuple), max_size=2),
)
def test_a_sketch_is_kept_as_json_and_comes_back_the_same(body: str, fields: Any, defaults: Any, where: Any) -> None:
    sketch = Sketch(body=body, text=body, fields=fields, defaults=defaults, where=where, measured=True)

    assert Sketch.from_json(sketch.to_json()) == sketch
