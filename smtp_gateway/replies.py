"""SMTP replies: the refusal table as two lines, English then Turkish, each with our stable code.

Where the sender's signature is why, each of the two is followed by a line with the verifier's finding, its
stable code and one sentence: their mail program's window is all that many senders see.

A reply here has no final CRLF; lines inside are separated by CRLF.
"""

from dataclasses import dataclass
from typing import Final

from evidence.nes.sentences import SENTENCES
from kephs.domain.refusals import TEXTS, RefusalCode
from kephs.usecases.submission.results import Accepted, Refused, Taken

_LINE_MAX: Final = 510  # spec: RFC5321#4.5.3.1.5 (512 with CRLF)
_FOLD: Final = str.maketrans("çğıöşüâîûÇĞİÖŞÜÂÎÛ", "cgiosuaiuCGIOSUAIU")


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply; ``close`` says that the connection ends with it, ``refusal`` which code it tells."""

    text: bytes
    close: bool = False
    refusal: RefusalCode | None = None


def simple(code: int, enhanced: str, text: str, *, close: bool = False) -> Reply:
    """Return a one-line reply of the protocol's own business."""
    return Reply(f"{code} {enhanced} {text}".encode("ascii"), close)


def accepted(outcome: Accepted) -> Reply:
    """Return the 250 of a message whose evidence 10 is durable."""
    return simple(250, "2.0.0", f"accepted evidence={outcome.evidence_id} message={outcome.message_id}")


def taken(outcome: Taken) -> Reply:
    """Return the 250 of a peer's message or receipt that is durable."""
    return simple(250, "2.0.0", f"evidence={outcome.evidence_id} message={outcome.message_id}")


def failed() -> Reply:
    """Return the 451 of a defect: its cause is in the log alone."""
    return simple(451, "4.3.0", "Internal error, try again")


def refused(outcome: Refused, *, utf8: bool) -> Reply:
    """Return the reply for a refused message: texts by code, the evidence id, recipients if any."""
    refusal = outcome.refusal
    return coded(
        refusal.code, utf8=utf8, evidence_id=outcome.evidence_id, recipients=refusal.recipients,
        finding=refusal.finding,
    )  # fmt: skip


def coded(
    code: RefusalCode,
    *,
    utf8: bool,
    evidence_id: str | None = None,
    recipients: tuple[str, ...] = (),
    finding: str = "",
) -> Reply:
    """Return the lines of one refusal code: English, Turkish, each with the finding behind it, if any.

    Turkish letters are folded to ASCII unless the client asked for SMTPUTF8. 421 and 521 end the session.

    Args:
        code: why.
        utf8: the client asked for SMTPUTF8.
        evidence_id: of the evidence 11.
        recipients: whom it is about, named to the sender.
        finding: the verifier's stable code; one that has no sentence is not told.
    """
    public = TEXTS[code]
    mark = f"[{code}]" + (f" evidence={evidence_id}" if evidence_id else "")
    named = " ".join(recipients)
    turkish, english = SENTENCES.get(finding, ("", ""))
    texts: list[str] = []
    for text, found in ((public.english, english), (public.turkish, turkish)):
        texts.append(f"{mark} {text}" + (f" {named}" if named else ""))
        if found:
            texts.append(f"{finding}: {found}")
    last = len(texts) - 1
    lines = [
        _line(f"{public.smtp}{' ' if number == last else '-'}{public.enhanced} {text}", utf8=utf8)
        for number, text in enumerate(texts)
    ]
    return Reply(b"\r\n".join(lines), close=public.smtp in {421, 521}, refusal=code)


def _line(text: str, *, utf8: bool) -> bytes:
    shown = "".join(char if char.isprintable() else "?" for char in text)
    if not utf8:
        return shown.translate(_FOLD).encode("ascii", "replace")[:_LINE_MAX]
    return shown.encode()[:_LINE_MAX].decode("utf-8", "ignore").encode()


def busy(*, utf8: bool = False) -> Reply:
    """Return the 421 of a server that is full or stopping."""
    return coded(RefusalCode.BUSY, utf8=utf8)
