"""The sections behind the timeline: content, signature, ledger, the judge's page, attached files."""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from xml.etree.ElementTree import Element

from evidence.report import Step
from evidence.verify.telling import sentences_of
from kephs.dossier.facts import Language, PartFact
from kephs.dossier.guide import GUIDE
from kephs.dossier.markup import Child, el
from kephs.dossier.texts import PURPOSES, STEPS, VERDICTS, said
from kephs.dossier.writing import Writing, local_text

PARTS_LISTED: Final = 200
"""Parts of one message that are printed; all stand in the attached data."""
_DETAIL_MAX: Final = 300
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:\+00:00|Z)")


def content(w: Writing) -> Iterator[Element]:
    """Yield the message's text and the list of its parts."""
    found = w.facts.content
    yield el("h3", w.word("text"))
    if found.body is None:
        yield el("p", w.word("no_text"))
    else:
        yield w.lead("text_lead")
        yield el("div", *w.values.lines(found.body.text), cls="body")
        if found.body.cut:
            yield el("p", w.word("text_cut"))
    yield el("h3", w.word("parts"))
    yield w.lead("parts_lead")
    yield w.table(
        (("part", "c-no"), ("file", ""), ("type", "c-type"), ("size", "c-size"), ("digest", "c-digest")),
        (_part(w, one) for one in found.parts[:PARTS_LISTED]),
    )
    if len(found.parts) > PARTS_LISTED:
        yield el("p", w.word("parts_more").format(len(found.parts) - PARTS_LISTED))
    yield el("p", w.word("hidden"), cls="lead")


def _part(w: Writing, one: PartFact) -> Sequence[Child]:
    if one.filename:
        name = w.values.text(one.filename)
    else:
        name = el("span", w.word("is_signature") if one.signature else "-")
    return (
        one.number, name, w.values.text(one.content_type), f"{_grouped(one.size)} {w.word('bytes')}",
        w.values.mono(one.sha256.hex()),
    )  # fmt: skip


def signature(w: Writing) -> Iterator[Element]:
    """Yield the verdict on the sender's signature as it was given at reception."""
    report = w.facts.report
    if report is None:
        yield el("p", w.word("no_report"))
        return
    yield w.lead("report_lead")
    verdict = str(report.get("verdict", ""))
    sub = report.get("sub_indication")
    told = said(VERDICTS.get(verdict, ("-", "-")), w.language)
    rows: list[tuple[str, Sequence[Child]]] = [
        ("verdict", [el("span", told, cls="ok" if verdict == "TOTAL-PASSED" else "bad"), " (",
                     w.values.mono(f"{verdict}, {sub}" if sub else verdict), ")"]),
        ("checked_at", [local_text(_text(report.get("at")))]),
    ]  # fmt: skip
    facts = report.get("facts")
    signers = facts.get("signers") if isinstance(facts, Mapping) else None
    for one in signers if isinstance(signers, list) else []:
        if isinstance(one, Mapping):
            rows += _signer(w, one)
    yield w.table_of_facts(rows)
    if w.facts.report_stamped:
        yield el("p", w.word("report_stamped"))
    steps = report.get("steps")
    yield w.table(
        (("step", "c-step"), ("check", ""), ("result", "c-result"), ("detail", "c-digest")),
        (_step(w, one) for one in (steps if isinstance(steps, list) else []) if isinstance(one, Mapping)),
    )


def _signer(w: Writing, one: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Child]]]:
    for key, name in (("signer", "common_name"), ("certificate_issuer", "issuer")):
        yield key, [w.values.text(_text(one.get(name)) or "-")]
    for key, name in (("serial", "serial"), ("fingerprint", "certificate_sha256")):
        yield key, [w.values.mono(_text(one.get(name)) or "-")]
    for key, name in (("not_after", "not_after"), ("signing_time", "signing_time")):
        yield key, [local_text(_text(one.get(name)))]


def _step(w: Writing, one: Mapping[str, Any]) -> Sequence[Child]:
    name, ok = _text(one.get("name")), one.get("ok")
    if w.language is Language.TURKISH:
        name = STEPS.get(name, name)
    key, cls = ("held", "ok") if ok is True else ("note", "") if ok is None else ("broken", "bad")
    detail = _TIME.sub(lambda found: local_text(found[0]), _text(one.get("detail"))[:_DETAIL_MAX])
    code = _text(one.get("code"))
    if ok is not True and code:
        turkish, english = sentences_of(Step("", name, ok=None, code=code))
        detail = f"{said((turkish, english), w.language)} {detail}".strip()
    return (
        w.values.mono(_text(one.get("number"))), w.values.text(name), el("span", w.word(key), cls=cls),
        w.values.text(detail, most=_DETAIL_MAX),
    )  # fmt: skip


def ledger(w: Writing) -> Iterator[Element]:
    """Yield the signed root and every evidence's place under it."""
    found = w.facts.ledger
    if found is None:
        yield el("p", w.word("no_ledger"))
    else:
        yield w.lead("ledger_lead")
        yield w.table_of_facts(
            [
                ("log", [w.values.mono(found.origin, most=_DETAIL_MAX)]),
                ("log_size", [str(found.size)]),
                ("log_root", [w.values.mono(b64encode(found.root).decode())]),
                ("log_signers", [w.values.mono(", ".join(found.signers))]),
            ]
        )
    yield w.table(
        (("ledger_no", "c-no"), ("file", ""), ("evidence_no", "c-evidence"), ("digest", "c-digest")),
        (
            (
                w.word("carried") if one.number is None else str(one.number), w.values.text(one.name),
                w.values.mono(one.evidence_id or "-"), w.values.mono(one.sha256.hex()),
            )
            for one in w.facts.evidence_files
        ),
    )  # fmt: skip


def judge(w: Writing) -> Iterator[Element]:
    """Yield how to check the dossier."""
    for advice in GUIDE[w.language]:
        parts = [el("h3", advice.heading)]
        if advice.text:
            parts.append(el("p", advice.text))
        if advice.commands:
            parts.append(el("div", *(w.values.mono(line) for line in advice.commands), cls="command"))
        yield el("div", *parts, cls="advice")
    if w.facts.roots:
        yield el("h3", w.word("roots"))
        yield w.lead("roots_lead")
        yield w.table(
            (("name", ""), ("digest", "c-digest")),
            ((w.values.text(one.subject), w.values.mono(one.fingerprint)) for one in w.facts.roots),
        )


def files(w: Writing) -> Iterator[Element]:
    """Yield what is attached to the PDF."""
    yield w.lead("files_lead")
    yield w.table(
        (("file", "c-id"), ("purpose", ""), ("size", "c-size"), ("digest", "c-digest")),
        (
            (
                w.values.text(one.name),
                el("span", said(PURPOSES[one.relationship], w.language)),
                f"{_grouped(one.size)} {w.word('bytes')}",
                w.values.mono(one.sha256.hex()),
            )
            for one in w.facts.embedded
        ),
    )


def _grouped(number: int) -> str:
    return f"{number:,}".replace(",", "\u00a0")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
