"""The court dossier: PDF/A-3b, complete, the same bytes again, and nothing from outside gets in."""

import asyncio
import io
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader

from evidence.ports import BytesSource
from evidence.verify.bundle import verify_bundle
from kephs.domain.evidence_meaning import MEANINGS
from kephs.domain.lifecycle import DeliveryState, MessageState
from kephs.dossier import embedding
from kephs.dossier.facts import (
    BUNDLE_NAME,
    DATA_NAME,
    ORIGINAL_NAME,
    DossierFacts,
    DossierTooLargeError,
    Language,
    Relationship,
)
from kephs.dossier.guide import GUIDE
from kephs.dossier.pages_timeline import EVENTS_IN_FULL
from kephs.dossier.pdf import FontsMissingError, Printer, PrintingError
from kephs.dossier.texts import MESSAGE_STATES, PURPOSES, STAMPS, STATES, VERDICTS, WORDS
from kephs.usecases.proof.bundle import BundleFault, BundleUnavailableError
from kephs.usecases.proof.dossier import DossierMovingError, MakeDossier
from kephs.usecases.proof.timeline import Stamp
from kephs.usecases.submission.results import Accepted
from tests.support.dossiers import LOG, NAME, attached, maker, printed, printer
from tests.support.pair import new_pair
from tests.support.pdfa import attachments, fonts_of, pdfa_faults, text_of
from tests.support.pki import ayse
from tests.support.world import MEHMET, World, compose, new_world, signed

pytestmark = pytest.mark.slow
BOTH = (Language.TURKISH, Language.ENGLISH)
FACES = {"Dossier-Sans", "Dossier-Sans-Bold", "Dossier-Mono"}
LETTERS = "İıŞşĞğÇçÖöÜü"


async def read_message(subject: str = f"İhtarname {LETTERS}") -> tuple[World, str]:
    """Return a world with a message that was read."""
    world = await new_world()
    outcome = await world.send(await signed(compose(subject=subject), ayse()))
    assert isinstance(outcome, Accepted)
    await world.work()
    (delivery,) = await world.store.read(lambda tx: tx.deliveries.of_message(outcome.message_id))
    await world.reader.expose(await world.person(MEHMET), [delivery.delivery_id])
    await world.work()
    return world, outcome.message_id


async def dossier_of(world: World, message_id: str) -> DossierFacts:
    return attached(await maker(world).make(message_id))


@pytest.fixture(scope="module")
def made() -> tuple[World, DossierFacts]:
    async def make() -> tuple[World, DossierFacts]:
        world, message_id = await read_message()
        return world, await dossier_of(world, message_id)

    return asyncio.run(make())


@pytest.fixture(scope="module")
def facts(made: tuple[World, DossierFacts]) -> DossierFacts:
    return made[1]


@pytest.fixture(scope="module")
def pdf(facts: DossierFacts) -> bytes:
    return printed(facts, BOTH)


def with_texts(facts: DossierFacts, text: str) -> DossierFacts:
    """Return the facts with a text from outside wherever one can stand."""
    line = facts.timeline
    one = line.recipients[0]
    event = replace(one.events[-1], person=text, issuer_name=text, issuer_domain=text)
    assert facts.content.body is not None
    parts = tuple(replace(part, filename=text, content_type=text) for part in facts.content.parts)
    return replace(
        facts,
        timeline=replace(
            line, subject=text, user_message_id=text, sender=replace(line.sender, name=text),
            recipients=(replace(one, name=text, provider=text, events=(*one.events[:-1], event)),),
        ),
        content=replace(facts.content, parts=parts, body=replace(facts.content.body, text=text)),
        report={**(facts.report or {}), "steps": [{"number": text, "name": text, "ok": None, "detail": text}]},
    )  # fmt: skip


# ------------------------------------------------------------------- the file


def test_a_dossier_is_pdf_a_3b(pdf: bytes) -> None:
    assert pdfa_faults(pdf) == []


@pytest.mark.parametrize(
    ("part", "instead", "fault"),
    [
        (b"/GTS_PDFA1", b"/GTS_PDFX0", "no PDF/A output intent"),
        (b"/AFRelationship/Source", b"/AFRelationship/Quelle", "an attachment without relationship"),
        (b"/FontFile2", b"/FontFileX", "not embedded"),
        (b"/Type/Filespec", b"/Type/Filespex", "an attachment without its two names"),
        (b"%PDF-1.7", b"%PDF-1.4", "no header of PDF 1.7"),
        (b"/ToUnicode", b"/ToUnicodX", "its text cannot be extracted"),
        (b"/AF ", b"/AX ", "attachments and associated files differ"),
        (b"/Metadata ", b"/Metadatx ", "no XMP metadata"),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else "",
)
def test_the_check_of_the_file_finds_what_is_missing(
    pdf: bytes, part: bytes, instead: bytes, fault: str
) -> None:
    spaced = part if part in pdf else part.replace(b"/Type/", b"/Type /").replace(b"ship/", b"ship /")
    assert spaced in pdf
    changed = (
        instead if spaced == part else instead.replace(b"/Type/", b"/Type /").replace(b"ship/", b"ship /")
    )
    assert len(changed) == len(spaced)
    assert any(fault in one for one in pdfa_faults(pdf.replace(spaced, changed)))


def test_the_same_facts_give_the_same_bytes_in_another_process_too(
    made: tuple[World, DossierFacts], pdf: bytes, tmp_path: Path
) -> None:
    world, facts = made
    assert attached(asyncio.run(maker(world).make(facts.timeline.message_id))) == facts
    files = tuple(replace(one, source=BytesSource(one.source.read(0, one.size))) for one in facts.embedded)
    (tmp_path / "facts").write_bytes(pickle.dumps(replace(facts, embedded=files)))
    code = (
        "import pickle, sys; from pathlib import Path; from kephs.dossier.facts import Language;"
        "from tests.support.dossiers import printed;"
        "facts = pickle.loads(Path(sys.argv[1]).read_bytes());"
        "sys.stdout.buffer.write(printed(facts, tuple(Language)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "facts"], capture_output=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "America/New_York", "LC_ALL": "C"},
    )  # fmt: skip
    assert done.stdout == pdf


def test_the_dates_are_those_of_the_bundle_not_of_the_printing(facts: DossierFacts, pdf: bytes) -> None:
    info = PdfReader(io.BytesIO(pdf)).metadata
    assert info is not None
    assert info.creation_date == info.modification_date == facts.created_at.replace(microsecond=0)


def test_every_font_is_one_of_ours(pdf: bytes) -> None:
    assert fonts_of(pdf) == FACES


def test_all_turkish_letters_can_be_extracted(pdf: bytes) -> None:
    text = text_of(pdf)
    assert LETTERS in text
    assert "\ufffd" not in text


def test_pages_are_numbered_in_their_language(pdf: bytes) -> None:
    pages = [page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages]
    count = len(pages)
    numbered = [
        f"Sayfa {n} / {count}" in text or f"Page {n} / {count}" in text for n, text in enumerate(pages, 1)
    ]
    assert numbered == [True] * count
    languages = ["tr" if "Sayfa" in text else "en" for text in pages]
    assert languages == sorted(languages, reverse=True)
    assert set(languages) == {"tr", "en"}


def test_one_language_alone_is_a_whole_dossier(facts: DossierFacts) -> None:
    for language, word, other in ((Language.TURKISH, "Sayfa", "Page "), (Language.ENGLISH, "Page", "Sayfa")):
        data = printed(facts, (language,))
        assert pdfa_faults(data) == []
        assert word in text_of(data)
        assert other not in text_of(data)


# ------------------------------------------------------------------- what it says


def test_it_says_who_when_and_what_each_evidence_proves_and_does_not(facts: DossierFacts, pdf: bytes) -> None:
    text = " ".join(text_of(pdf).split())
    for event in (*facts.timeline.events, *facts.timeline.recipients[0].events):
        meaning = MEANINGS[event.kind]
        for sentence in (*meaning.proves, *meaning.does_not):
            assert sentence in text
    for one in (NAME, "Ayşe Yılmaz", "Mehmet Demir", facts.timeline.message_id, "21.11.2026 12:01:00"):
        assert one in text
    assert "TEST SERTİFİKALARI" in text
    assert "kephs verify delil-paketi.kepdelil" in text


def test_digests_on_paper_are_those_of_the_attached_files(facts: DossierFacts, pdf: bytes) -> None:
    files = attachments(pdf)
    assert set(files) == {ORIGINAL_NAME, BUNDLE_NAME, DATA_NAME}
    paper = "".join(text_of(pdf).split())
    for content in files.values():
        assert sha256(content).hexdigest() in paper
    for part in facts.content.parts:
        assert part.sha256.hex() in paper
    assert {one.name: one.relationship for one in facts.embedded} == {
        ORIGINAL_NAME: Relationship.SOURCE,
        BUNDLE_NAME: Relationship.SUPPLEMENT,
        DATA_NAME: Relationship.DATA,
    }


def test_the_attached_bundle_verifies_offline(made: tuple[World, DossierFacts], pdf: bytes) -> None:
    world, facts = made
    files = attachments(pdf)
    at = world.clock.now() + timedelta(minutes=1)
    assert verify_bundle(BytesSource(files[BUNDLE_NAME]), world.trust, at, log_key=LOG.verifier).passed
    assert sha256(files[ORIGINAL_NAME]).digest() == facts.timeline.digest_sha256
    assert [one["code"] for one in json.loads(files[DATA_NAME])["recipients"][0]["evidence"]] == [40, 60]


def test_new_evidence_makes_a_new_dossier_and_what_comes_and_goes_does_not() -> None:
    async def go() -> None:
        world = await new_world()
        outcome = await world.send(await signed(compose(), ayse()))
        assert isinstance(outcome, Accepted)
        await world.work()
        first = await dossier_of(world, outcome.message_id)
        world.clock.at += timedelta(days=2)
        assert await dossier_of(world, outcome.message_id) == first
        (delivery,) = await world.store.read(lambda tx: tx.deliveries.of_message(outcome.message_id))
        await world.reader.expose(await world.person(MEHMET), [delivery.delivery_id])
        second = await dossier_of(world, outcome.message_id)
        assert second.events == first.events + 1
        assert printed(second) != printed(first)

    asyncio.run(go())


def test_evidence_that_keeps_coming_is_told_not_printed_half() -> None:
    class Moving:
        def __init__(self, inner) -> None:
            self.inner = inner

        async def show(self, wanted: str, *, account: str | None = None):
            return replace(await self.inner.show(wanted, account=account), events=())

    async def go() -> None:
        world, message_id = await read_message()
        whole = maker(world)
        work = MakeDossier(whole.bundles, Moving(whole.timelines), whole.offload, NAME, world.domain)
        with pytest.raises(DossierMovingError):
            await work.make(message_id)
        with pytest.raises(BundleUnavailableError) as caught:
            await whole.make("nobody")
        assert caught.value.fault is BundleFault.NO_SUCH_MESSAGE

    asyncio.run(go())


def test_every_word_state_and_step_has_both_languages() -> None:
    tables: list[Any] = [WORDS, MESSAGE_STATES, STATES, STAMPS, VERDICTS, PURPOSES]
    assert all(len(pair) == 2 and all(pair) for table in tables for pair in table.values())
    assert set(MESSAGE_STATES) == set(MessageState)
    assert set(STATES) == {*DeliveryState, None}
    assert set(STAMPS) == set(Stamp)
    assert set(PURPOSES) == set(Relationship)
    turkish, english = GUIDE[Language.TURKISH], GUIDE[Language.ENGLISH]
    assert [one.commands for one in turkish] == [one.commands for one in english]


# ------------------------------------------------------------------- attacks and extremes


@pytest.mark.parametrize(
    "attack",
    [
        "<img src=http://127.0.0.1:9/x.png><link rel=attachment href=file:///etc/passwd>",
        "</style><style>@import url(http://127.0.0.1:9/x.css); @page{size:1mm}</style>",
        "}; @font-face{font-family:x;src:url(file:///etc/passwd)} /*",
        "<base href=http://127.0.0.1:9/><script>x</script>",
        "A" * 3000,
        "fatura\u202efdp.exe\u200b\u2066 \u05d0\u05d1\u05d2 123 \u0645\u0631\u062d\u0628\u0627",
        "\U0001f600\u2b50\u4f60\u597d \ue000 \x00\x1b[31m z" + "\u0301" * 40,
        "satır\r\nbaşka\u2028satır",
    ],
    ids=["image", "css", "font-face", "base", "long", "right-to-left", "no-glyph", "line-ends"],
)
def test_hostile_text_everywhere_is_only_text(facts: DossierFacts, attack: str) -> None:
    data = printed(with_texts(facts, attack))
    assert pdfa_faults(data) == []
    assert fonts_of(data) == FACES
    assert set(attachments(data)) == {ORIGINAL_NAME, BUNDLE_NAME, DATA_NAME}
    assert b"root:" not in data
    sizes = {(page.mediabox.width, page.mediabox.height) for page in PdfReader(io.BytesIO(data)).pages}
    assert len(sizes) == 1


def test_a_document_that_names_anything_but_fonts_is_not_printed(
    facts: DossierFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = printer()
    html = asked.html(facts, (Language.TURKISH,)).replace("</body>", '<img src="file:///etc/passwd"></body>')
    monkeypatch.setattr(Printer, "html", lambda *_: html)
    with pytest.raises(PrintingError, match="a dossier fetches nothing"):
        asked.print_to(io.BytesIO(), facts, (Language.TURKISH,))


def test_a_message_to_many_has_a_table_of_meanings_and_of_recipients(facts: DossierFacts) -> None:
    line = facts.timeline
    one = line.recipients[0]
    count = 60
    many = tuple(replace(one, number=n, address=f"alici{n}@hs91.kep.tr") for n in range(1, count + 1))
    big = replace(facts, timeline=replace(line, recipients=many))
    assert big.events > EVENTS_IN_FULL
    data = printed(big)
    assert pdfa_faults(data) == []
    text = text_of(data)
    assert text.count(MEANINGS[one.events[0].kind].does_not[0]) == 1
    assert all(text.count(f"alici{n}@hs91.kep.tr") >= 3 for n in (1, 30, count))
    assert f"ve {count - 5} alıcı daha" in text
    heads = [page for page in PdfReader(io.BytesIO(data)).pages if "KEP adresi" in page.extract_text()]
    assert len(heads) >= 2, "the table's head comes again"


def test_a_missing_font_is_named(tmp_path: Path) -> None:
    with pytest.raises(FontsMissingError, match=r"DejaVuSans\.ttf"):
        Printer(tmp_path)
    (tmp_path / "DejaVuSans.ttf").write_bytes(b"not a font")
    with pytest.raises(FontsMissingError, match="not a TrueType font"):
        Printer(tmp_path)


def test_attachments_beyond_what_a_pdf_can_hold_are_refused_before_anything_is_written(
    facts: DossierFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "OFFSET_MAX", 1000)
    out = io.BytesIO()
    with pytest.raises(DossierTooLargeError):
        printer().print_to(out, facts, (Language.TURKISH,))
    assert out.getvalue() == b""


def test_the_recipients_provider_makes_a_dossier_too_with_the_evidence_that_came_along() -> None:
    async def go() -> tuple[DossierFacts, bytes]:
        pair = await new_pair()
        message_id = await pair.send()
        await pair.work()
        facts = await dossier_of(pair.there, message_id)
        return facts, printed(facts)

    facts, data = asyncio.run(go())
    assert facts.report is None
    assert [one.number for one in facts.evidence_files] == [1, 2, 3], "evidence 10, which came with it, too"
    assert pdfa_faults(data) == []
    assert WORDS["no_report"][0] in " ".join(text_of(data).split())


def test_every_page_of_a_test_instance_says_so_and_no_other_does(facts: DossierFacts, pdf: bytes) -> None:
    pages = [page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages]
    assert all(any(word in text for word in WORDS["test_short"]) for text in pages)
    assert "TEST:" not in text_of(printed(replace(facts, test=False)))
