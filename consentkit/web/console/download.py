"""Files that the staff take with them: kept by no cache, run by no browser, named as they were."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from typing import Final
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from consentkit.csvstream import inert
from consentkit.web.visit import HEADERS

CSV: Final = "text/csv"


def attachment(name: str) -> Mapping[str, str]:
    """The headers of a file to keep, under its own name, whatever signs that has (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "bestand"
    return HEADERS | {
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    }


def streamed(name: str, pieces: Iterable[bytes], media_type: str = CSV) -> Response:
    """A file that is sent as it is made, so that its length doesn't matter."""
    return StreamingResponse(pieces, 200, attachment(name), f"{media_type}; charset=utf-8")


def sheet(columns: Sequence[str], pages: Iterable[Iterable[Sequence[object]]]) -> Iterator[bytes]:
    """A CSV, a piece for each page of rows. A spreadsheet computes nothing of its texts."""
    yield _lines([columns])
    for rows in pages:
        yield _lines(rows)


def _lines(rows: Iterable[Sequence[object]]) -> bytes:
    written = StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerows([inert(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return written.getvalue().encode()
