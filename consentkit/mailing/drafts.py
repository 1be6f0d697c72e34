"""Mailings that are still being written, complete or not, by one or by several people.

A draft becomes a mailing when it is put ready: from then on its content can't change, so that what was checked is what
is sent. Until somebody lets that mailing go out, the draft can be opened again. Who saves what another has changed
meanwhile is told so, and nothing is overwritten.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Self

from sqlalchemy import and_, delete, func, select, update
from sqlalchemy.engine import Connection, Row

from consentkit.errors import ConsentKitError, MailingError
from consentkit.mailing.mailings import Mailings
from consentkit.mailing.problem import Problem
from consentkit.mailing.source import ATTACHMENTS_MB, CONTROL, Draft, File
from consentkit.mailing.states import MailingState
from consentkit.mailing.tables import draft_files, drafts
from consentkit.store import Store

Markup = Literal["html", "md", "mjml"]

KEEP: Final = timedelta(days=30)
"""So long a draft that was thrown away can be put back."""

PAGE: Final = 50
_MOST_TITLE: Final = 200
_WORDS: Final = 10
_STILL_TO_COME: Final = frozenset(("image_missing",))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """What the form of a mailing holds, complete or not; the names are those of `Draft`.

    Args:
        markup: the language of the body. body: the template. text: that of the plain text; empty: made from the body.
    """

    list: str = ""
    subject: str = ""
    preheader: str = ""
    markup: Markup = "md"
    body: str = ""
    text: str = ""
    purpose: Literal["marketing", "service"] = "marketing"
    sender: str = ""
    reply_to: str = ""
    language: str = ""
    fields: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict, hash=False)
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    measured: bool = False

    @classmethod
    def of(cls, draft: Draft) -> Self:
        """What was written in a mailing, without its files."""
        return cls(
            **{name: getattr(draft, name) for name in _SHARED},
            markup=draft.markup,
            body=draft.html,
            defaults=dict(draft.defaults),
            where=dict(draft.where),
        )

    def draft(self, files: Iterable[File] = (), attachments_mb: int = ATTACHMENTS_MB) -> Draft:
        """The mailing as it would be sent.

        Raises:
            MailingError: it is not complete, or can't be sent as it is; with every problem.
        """
        given = {name: getattr(self, name) for name in (*_SHARED, "defaults", "where")}
        file = f"mailing.{self.markup}"
        return Draft.of(attachments_mb=attachments_mb, html=self.body, file=file, files=tuple(files), **given)

    def check(self, files: Iterable[File] = (), attachments_mb: int = ATTACHMENTS_MB) -> None:
        """Whether it can be kept: what still is to come does not matter, what can never be sent does.

        Raises:
            MailingError: with every problem.
        """
        filled = replace(self, list=self.list or "-", subject=self.subject if self.subject.strip() else "-")
        if not self.body.strip():
            filled = replace(filled, markup="md", body="-")
        try:
            filled.draft(files, attachments_mb)
        except MailingError as error:
            if found := [each for each in error.problems if getattr(each, "code", "") not in _STILL_TO_COME]:
                raise MailingError(found) from None

    def to_json(self) -> str:
        """All of it."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote."""
        kept = json.loads(text)
        where = {name: tuple(values) for name, values in kept["where"].items()}
        return cls(**{**kept, "fields": tuple(kept["fields"]), "where": where})


_SHARED: Final = (
    *("list", "subject", "preheader", "text", "purpose", "sender", "reply_to", "language", "fields", "measured"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What a list tells of a draft.

    Args:
        title: its subject; empty where it has none yet. version: counts its saves.
        editors: everybody who wrote on it. mailing_id: what it became. deleted_at: when it was thrown away.
    """

    id: int
    site: str
    title: str
    version: int
    editors: tuple[str, ...]
    saved_at: datetime
    saved_by: str
    mailing_id: int | None
    deleted_at: datetime | None

    @property
    def open(self) -> bool:
        """Whether one can write on it."""
        return self.mailing_id is None and self.deleted_at is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept(Outline):
    """A draft as it is kept: what it says, with its attachments and images."""

    sketch: Sketch
    files: tuple[File, ...] = ()


class DraftConflict(ConsentKitError):
    """Somebody else saved the draft meanwhile; nothing was overwritten.

    Args:
        theirs: the draft as it is now.
    """

    def __init__(self, theirs: Kept) -> None:
        super().__init__(f"draft {theirs.id} was saved by {theirs.saved_by} meanwhile: look at both before saving")
        self.theirs = theirs


class Drafts:
    """Keeps drafts.

    Args:
        store: the database. mailings: what they become. clock: tells the time, aware.
    """

    def __init__(self, store: Store, mailings: Mailings, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._mailings = mailings
        self._now = clock

    # -- looking --------------------------------------------------------------------------------------------------

    def get(self, id: int) -> Kept:
        """One draft, with its files.

        Raises:
            MailingError: there is none with this number.
        """
        with self._store.read() as connection:
            row = connection.execute(select(drafts).where(drafts.c.id == id)).first()
            if row is None:
                raise MailingError([Problem("draft", "draft_unknown", id=id)])
            return _kept(row, _files(connection, id))

    def open(
        self,
        search: str = "",
        *,
        before: int | None = None,
        after: int | None = None,
        oldest_first: bool = False,
        most: int = PAGE,
    ) -> Sequence[Outline]:
        """Drafts on which somebody can write on, the newest first unless told otherwise.

        Args:
            search: words that must all stand in the title.
            before, after: only those with a smaller or a greater number; the ones closest to it are given.
        """
        row = drafts.c
        found = [row.title.icontains(word, autoescape=True) for word in search.split()[:_WORDS]]
        if before is not None:
            found.append(row.id < before)
        if after is not None:
            found.append(row.id > after)
        ascending = oldest_first if before is None and after is None else after is not None
        query = select(*_OUTLINE).where(_IS_OPEN, *found)
        query = query.order_by(row.id if ascending else row.id.desc()).limit(most)
        with self._store.read() as connection:
            some = [Outline(**_told(one)) for one in connection.execute(query)]
        return some if ascending == oldest_first else some[::-1]

    def of_mailing(self, mailing_id: int) -> Outline | None:
        """The draft that a mailing was made of; None where it was written elsewhere."""
        query = select(*_OUTLINE).where(drafts.c.mailing_id == mailing_id).order_by(drafts.c.id.desc())
        with self._store.read() as connection:
            row = connection.execute(query).first()
        return Outline(**_told(row)) if row is not None else None

    @property
    def attachments_mb(self) -> int:
        """How many megabytes the files of one draft may have."""
        return self._mailings.attachments_mb

    # -- writing --------------------------------------------------------------------------------------------------

    def make(
        self, site: str, sketch: Sketch, by: str, files: Iterable[File] = (), *, editors: Iterable[str] = ()
    ) -> int:
        """Begin a draft; its number.

        Args:
            editors: who else wrote what it begins with.
        """
        now = self._now()
        wrote = json.dumps([*dict.fromkeys((*editors, by))], ensure_ascii=False)
        values = {
            "site": site, "version": 1, "editors": wrote, "made_at": now, "saved_at": now, "saved_by": by,
            "mailing_id": None, "deleted_at": None, **_written(sketch),
        }  # fmt: skip
        with self._store.told(), self._store.begin() as connection:
            made = connection.execute(drafts.insert().returning(drafts.c.id), values).scalar_one()
            _add(connection, made, files)
        return int(made)

    def copy(self, by: str, *, draft: int | None = None, mailing: int | None = None) -> int:
        """Begin a draft with what stands in an earlier draft, or in a mailing, wherever it was made; its number.

        Whoever wrote what nobody released yet wrote this too.

        Raises:
            MailingError: there is no such draft or mailing.
        """
        if mailing is not None:
            site, written = self._mailings.written(mailing)
            waits = self._mailings.get(mailing).state is MailingState.DRAFT
            wrote = self.of_mailing(mailing) if waits else None
            return self.make(site, Sketch.of(written), by, written.files, editors=wrote.editors if wrote else ())
        kept = self.get(draft or 0)
        return self.make(kept.site, kept.sketch, by, kept.files, editors=kept.editors)

    def save(
        self, id: int, sketch: Sketch, by: str, version: int, *, add: Sequence[File] = (), remove: Collection[str] = ()
    ) -> int:
        """Keep what was written; the new version.

        Args:
            version: the one that was written on. add: files, which replace those of the same name.
            remove: names of files.

        Raises:
            DraftConflict: somebody saved it meanwhile.
            MailingError: something in it can never be sent, with every problem; or the draft can't be changed any more.
        """
        kept = self.get(id)
        self._refuse(kept, version)
        gone = {*remove, *(file.name for file in add)}
        self.check(sketch, [*(file for file in kept.files if file.name not in gone), *add])
        with self._store.told(), self._store.begin() as connection:
            self._change(connection, kept, by, _written(sketch) | {"version": version + 1, "saved_by": by})
            theirs = draft_files.c.draft_id == id
            connection.execute(delete(draft_files).where(theirs, draft_files.c.name.in_(sorted(gone))))
            _add(connection, id, add)
        return version + 1

    def check(self, sketch: Sketch, files: Iterable[File] = ()) -> None:
        """Whether it can be kept, complete or not.

        Raises:
            MailingError: something in it can never be sent; with every problem.
        """
        files = tuple(files)
        sketch.check(files, self.attachments_mb)
        if sketch.list:
            self._mailings.check(Draft(list=sketch.list, subject="-", html="-", sender=sketch.sender))

    def ready(self, id: int, by: str) -> int:
        """Make the mailing of it, whose content can't change any more; the number of the mailing.

        Raises:
            MailingError: it is not complete, or can't be sent as it is; with every problem.
            DraftConflict: somebody saved it meanwhile.
        """
        kept = self.get(id)
        if kept.mailing_id is not None:
            return kept.mailing_id
        self._refuse(kept, kept.version)
        press = self._mailings.press(kept.sketch.draft(kept.files, self.attachments_mb), kept.site)
        with self._store.told(), self._store.begin() as connection:
            made = self._mailings.keep(connection, press)
            self._change(connection, kept, by, {"mailing_id": made})
        return made

    def reopen(self, mailing_id: int, by: str) -> int:
        """Write on a mailing that nobody let go out yet: it is cancelled, and its draft is open again; its number.

        Raises:
            MailingError: it is further than that, or was not written here.
        """
        kept = self.of_mailing(mailing_id)
        if kept is None:
            raise MailingError([Problem("draft", "draft_none", id=mailing_id)])
        with self._store.told(), self._store.begin() as connection:
            self._mailings.take_back(connection, mailing_id)
            editors = _editors(kept, by)
            values = {"mailing_id": None, "version": kept.version + 1, "editors": editors}
            connection.execute(update(drafts).where(drafts.c.id == kept.id).values(values))
        return kept.id

    def throw_away(self, id: int, by: str) -> None:
        """Throw a draft away; for a while it can be put back.

        Raises:
            MailingError: there is none, or it became a mailing.
        """
        kept = self.get(id)
        if kept.mailing_id is not None:
            self._refuse(kept, kept.version)
        values = {"deleted_at": self._now(), "editors": _editors(kept, by)}
        with self._store.told(), self._store.begin() as connection:
            connection.execute(update(drafts).where(drafts.c.id == id, _IS_OPEN).values(values))

    def put_back(self, id: int) -> None:
        """Take a draft back that was thrown away."""
        with self._store.told(), self._store.begin() as connection:
            connection.execute(update(drafts).where(drafts.c.id == id).values(deleted_at=None))

    def purge(self, now: datetime, *, keep: timedelta = KEEP, dry_run: bool = False) -> int:
        """Delete what was thrown away longer than `keep` ago; how many went, or would go. Idempotent."""
        old = drafts.c.deleted_at <= now - keep
        with self._store.told(), self._store.begin() as connection:
            if dry_run:
                return int(connection.execute(select(func.count()).select_from(drafts).where(old)).scalar_one())
            gone = select(drafts.c.id).where(old)
            connection.execute(delete(draft_files).where(draft_files.c.draft_id.in_(gone)))
            return connection.execute(delete(drafts).where(old)).rowcount

    # -- inside ---------------------------------------------------------------------------------------------------

    @staticmethod
    def _refuse(kept: Kept, version: int) -> None:
        if not kept.open:
            raise MailingError([Problem("draft", "draft_closed", id=kept.id)])
        if kept.version != version:
            raise DraftConflict(kept)

    def _change(self, connection: Connection, kept: Kept, by: str, values: Mapping[str, Any]) -> None:
        """Change a draft that nobody has changed since it was read; else the transaction is for nothing."""
        unchanged = and_(drafts.c.id == kept.id, drafts.c.version == kept.version, _IS_OPEN)
        values = {"saved_at": self._now(), "editors": _editors(kept, by), **values}
        if connection.execute(update(drafts).where(unchanged).values(values)).rowcount == 1:
            return
        row = connection.execute(select(drafts).where(drafts.c.id == kept.id)).one()
        now = _kept(row, _files(connection, kept.id))
        self._refuse(now, kept.version)


_OUTLINE: Final = tuple(drafts.c[name] for name in Outline.__dataclass_fields__)
_IS_OPEN: Final = and_(drafts.c.mailing_id.is_(None), drafts.c.deleted_at.is_(None))


def _written(sketch: Sketch) -> dict[str, str]:
    title = CONTROL.sub(" ", sketch.subject).strip()[:_MOST_TITLE]
    return {"title": title, "content": sketch.to_json()}


def _editors(kept: Outline, by: str) -> str:
    return json.dumps([*dict.fromkeys((*kept.editors, by))], ensure_ascii=False)


def _add(connection: Connection, id: int, files: Iterable[File]) -> None:
    rows = [
        {"draft_id": id, "name": file.name, "kind": file.kind, "inline": file.inline, "data": file.data}
        for file in files
    ]
    if rows:
        connection.execute(draft_files.insert(), rows)


def _files(connection: Connection, id: int) -> tuple[File, ...]:
    query = select(draft_files).where(draft_files.c.draft_id == id).order_by(draft_files.c.name)
    return tuple(File(row.name, row.kind, row.inline, bytes(row.data)) for row in connection.execute(query))


def _told(row: Row[Any]) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in Outline.__dataclass_fields__}
    return values | {"editors": tuple(json.loads(row.editors))}


def _kept(row: Row[Any], files: tuple[File, ...] = ()) -> Kept:
    return Kept(**_told(row), sketch=Sketch.from_json(row.content), files=files)
