"""What the archive collected over the years, cut to what a bundle may hold.

Every archive object and every round brings its own answers, most of them about the same certificates: a
notice that 500 recipients read in 500 weeks has evidence in hundreds of objects. An answer tells for every
earlier time what a certificate was worth, so of many about the same ones the newest goes in always, and older
ones spread evenly between it and the first: a list forgets certificates that have expired.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeAlias

from evidence.bundle.making import RevocationFile
from evidence.x509.crl import crl_header
from evidence.x509.revocation import RevocationError, parse_ocsp

MOST: Final = 120
"""Files; readers take 200, with those about the sender and those asked for today."""
_CAPS: Final = (16, 8, 4, 2, 1)

_Subject: TypeAlias = bytes | tuple[int, ...]


def thinned(files: Sequence[RevocationFile], most: int = MOST) -> list[RevocationFile]:
    """Return at most so many files, in their order; all where they are few.

    Args:
        files: OCSP responses and lists; what cannot be read goes first.
        most: so many are returned.
    """
    if len(files) <= most:
        return list(files)
    groups: dict[_Subject, list[tuple[datetime, str]]] = {}
    for file in files:
        read = _about(file)
        if read is not None:
            subject, made = read
            groups.setdefault(subject, []).append((made, file.name))
    kept: list[str] = []
    for cap in _CAPS:
        kept = [name for group in groups.values() for name in _spread(sorted(group), cap)]
        if len(kept) <= most:
            break
    chosen = frozenset(kept[:most])
    return [file for file in files if file.name in chosen]


def _about(file: RevocationFile) -> tuple[_Subject, datetime] | None:
    """Return what a file is about, and when it was made; None where it cannot be read."""
    try:
        if file.name.endswith(".crl"):
            return crl_header(file.content)
        response = parse_ocsp(file.content)
    except RevocationError:
        return None
    return tuple(response.serials), response.produced_at


def _spread(group: Sequence[tuple[datetime, str]], most: int) -> list[str]:
    """Return names spread evenly over a group that ascends by time; the newest is among them."""
    count = min(most, len(group))
    if count == 1:
        return [group[-1][1]]
    last = len(group) - 1
    return [group[round(place * last / (count - 1))][1] for place in range(count)]
