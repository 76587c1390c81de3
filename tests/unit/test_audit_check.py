"""A process record that was handed over, step by step: each thing a stranger can find, with a passing twin."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from evidence.ledger.merkle import MemoryTree, leaf_data, leaf_hash, root
from evidence.ledger.notes import Checkpoint, sign_checkpoint
from evidence.ledger.proof import make_proof
from evidence.report import Report, SubIndication, Verdict
from kephs.domain.audit import AuditEntry, link_problem, next_entry
from kephs.domain.audit_anchor import (
    TOLERANCE,
    Anchored,
    BreakKind,
    RecordCheck,
    Statement,
    StatementError,
    anchor_name,
)
from kephs.domain.audit_check import (
    RECORD_EXPORTED,
    Held,
    ShownAnchor,
    check_record,
    record_line,
)
from kephs.domain.erasure import ContentPart, Removal, RemovalCause, destroyed_detail
from kephs.domain.trust_list import AnchorKind, AnchorState, TrustAnchor, TrustListError, retire
from tests.support.ledger_world import ORIGIN, signer

T0 = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
LOG = signer(1)


def record(count: int) -> list[AuditEntry]:
    """Return a record whose last entry is that of its export, an entry an hour."""
    made: list[AuditEntry] = []
    for number in range(count):
        action = RECORD_EXPORTED if number == count - 1 else "account.opened"
        last = made[-1] if made else None
        made.append(
            next_entry(last, at=T0 + number * HOUR, actor="Ayşe", action=action, subject="s", detail="")
        )
    return made


def said(entry: AuditEntry, at: datetime | None = None) -> Statement:
    return Statement(entry.number, entry.digest, at or entry.at)


class Ledger:
    """A ledger of these statements alone."""

    def __init__(self, *statements: bytes) -> None:
        self.statements = statements
        salts = [sha256(b"salt" + one).digest() for one in statements]
        leaves = [
            leaf_hash(leaf_data(salt, sha256(one).digest()))
            for salt, one in zip(salts, statements, strict=True)
        ]
        tree = MemoryTree(leaves)
        self.note = sign_checkpoint(Checkpoint(ORIGIN, len(leaves), root(len(leaves), tree)), LOG)
        self.proofs = [
            make_proof(number, salt, self.note, tree).encode() for number, salt in enumerate(salts, 1)
        ]

    @property
    def anchors(self) -> list[ShownAnchor]:
        return [ShownAnchor(one, proof) for one, proof in zip(self.statements, self.proofs, strict=True)]


def ledger(*statements: Statement) -> Ledger:
    return Ledger(*(one.encode() for one in statements))


def check(entries: list[AuditEntry], of: Ledger, **given: object) -> Report:
    lines = [record_line(one) for one in entries]
    anchors, note = given.pop("anchors", of.anchors), given.pop("note", of.note)
    return check_record(lines, anchors, note, LOG.verifier, T0 + 9 * HOUR, **given)  # type: ignore[arg-type]


def failing(report: Report) -> tuple[str, SubIndication | None, str]:
    step = report.failing_step
    assert step is not None
    return step.name, step.sub_indication, step.detail


ENTRIES = record(4)
HONEST = ledger(said(ENTRIES[1]), said(ENTRIES[3]))


def test_an_honest_record_passes() -> None:
    report = check(ENTRIES, HONEST)
    assert report.passed
    assert report.facts["anchors"] == 2


def test_a_checkpoint_without_the_ledgers_signature_leaves_it_undecided() -> None:
    text = HONEST.note.partition(b"\n\n")[0]
    other = sign_checkpoint(Checkpoint("b.example", 2, bytes(32)), signer(2, "b.example"))
    report = check(ENTRIES, HONEST, note=text + other[other.index(b"\n\n") :])
    assert report.steps[1].name == "checkpoint"
    assert report.steps[1].sub_indication is SubIndication.NO_SIGNING_CERTIFICATE_FOUND


def test_a_checkpoint_that_is_none_fails() -> None:
    report = check(ENTRIES, HONEST, note=b"no note")
    assert failing(report)[:2] == ("checkpoint", SubIndication.SIG_CRYPTO_FAILURE)


def test_an_anchor_without_its_entry_fails() -> None:
    report = check(ENTRIES, HONEST, anchors=[*HONEST.anchors, ShownAnchor(b"", b"")])
    assert failing(report)[0] == "anchors"
    assert "whose entry is gone" in failing(report)[2]


def test_an_anchor_that_is_no_statement_fails() -> None:
    report = check(ENTRIES, HONEST, anchors=[replace(HONEST.anchors[0], statement=b"x"), HONEST.anchors[1]])
    assert failing(report)[0] == "anchors"


def test_an_anchor_with_the_proof_of_another_fails() -> None:
    swapped = replace(HONEST.anchors[0], proof=HONEST.anchors[1].proof)
    report = check(ENTRIES, HONEST, anchors=[swapped, HONEST.anchors[1]])
    assert failing(report)[0] == "anchors"
    assert failing(report)[2].startswith("anchor 2: ")


def test_an_anchor_under_another_checkpoint_than_the_one_shown_fails() -> None:
    same_tree = ledger(said(ENTRIES[1]), said(ENTRIES[3]), said(ENTRIES[0]))
    report = check(ENTRIES, HONEST, note=same_tree.note)
    assert failing(report)[0] == "anchors"


def test_two_statements_about_one_entry_fail() -> None:
    twice = ledger(said(ENTRIES[1]), said(ENTRIES[1], T0 + 2 * HOUR), said(ENTRIES[3]))
    assert "two statements about one entry" in failing(check(ENTRIES, twice))[2]


def test_a_chain_that_does_not_join_fails_as_a_record_and_each_problem_is_told() -> None:
    broken = [ENTRIES[0], *ENTRIES[2:]]
    report = check(broken, ledger(said(ENTRIES[3])))
    assert failing(report)[:2] == ("record", SubIndication.HASH_FAILURE)
    assert "is missing" in failing(report)[2]


def test_a_line_that_is_no_entry_fails_and_what_stands_before_it_was_looked_at() -> None:
    lines = [record_line(ENTRIES[0]), b"{}\n"]
    report = check_record(lines, HONEST.anchors, HONEST.note, LOG.verifier, T0 + 9 * HOUR)
    assert failing(report)[:2] == ("record", SubIndication.FORMAT_FAILURE)
    assert failing(report)[2].startswith("line 2: ")


def test_anchors_that_tell_another_time_than_an_older_checkpoint_does_fail() -> None:
    older = ledger(said(ENTRIES[1]))
    between = Held(older.note, ENTRIES[1].at + HOUR / 2)
    assert check(ENTRIES, HONEST, held=between).steps[5].ok
    assert check(ENTRIES, HONEST, held=replace(between, got=None)).steps[5].ok is None
    early = replace(between, got=ENTRIES[1].at - TOLERANCE - HOUR)
    late = replace(between, got=ENTRIES[3].at + TOLERANCE + HOUR)
    for held, words in ((early, "after the checkpoint that it is in"), (late, "before the checkpoint that")):
        name, sub, detail = failing(check(ENTRIES, HONEST, held=held))
        assert (name, sub) == ("older checkpoint", SubIndication.TIMESTAMP_ORDER_FAILURE)
        assert words in detail


def test_an_older_checkpoint_that_is_none_fails() -> None:
    report = check(ENTRIES, HONEST, held=Held(b"no note"))
    assert failing(report)[0] == "older checkpoint"
    assert report.verdict is Verdict.FAILED


# ------------------------------------------------------------------- parts of it


@pytest.mark.parametrize("number", [0, -1, 10**12])
def test_a_number_that_no_entry_has_has_no_anchor(number: int) -> None:
    with pytest.raises(ValueError):
        anchor_name(number)


def test_a_statement_needs_a_digest_and_a_zone() -> None:
    for bad in (Statement(1, b"short", T0), Statement(1, bytes(32), T0.replace(tzinfo=None))):
        with pytest.raises(ValueError):
            bad.encode()


def test_a_statement_in_another_spelling_is_none() -> None:
    good = Statement(7, bytes(32), T0).encode()
    assert Statement.read(good) == Statement(7, bytes(32), T0)
    for other in (b"9:30:00.0000000Z", b"09:30:0.0000000Z", b"09:30:00.00000ZZ", b"09:30:60.000000Z"):
        with pytest.raises(StatementError):
            Statement.read(good.replace(b"09:30:00.000000Z", other))


def test_an_altered_entry_is_told_whatever_stands_in_it() -> None:
    entry = ENTRIES[0]
    assert link_problem(entry, 1, entry.previous) is None
    unzoned, garbled = replace(entry, at=T0.replace(tzinfo=None)), replace(entry, detail="\ud800")
    for altered in (replace(entry, actor="Ali"), unzoned, garbled):
        problem = link_problem(altered, 1, entry.previous)
        assert problem is not None
        assert "altered" in problem


def test_an_unreadable_entry_is_passed_over_and_its_anchor_is_not_told_as_gone() -> None:
    follow = RecordCheck([_anchored(ENTRIES[1]), _anchored(ENTRIES[3])])
    assert follow.take(ENTRIES[0]) == []
    follow.skip()
    found = follow.take(ENTRIES[2])
    assert {one.kind for one in found} == {BreakKind.CHAIN}
    assert follow.finish()[-1].cause.startswith("it is gone")


def test_an_anchor_of_another_entry_is_told_also_where_the_entry_can_have_none() -> None:
    wrong = replace(_anchored(ENTRIES[0]), statement_sha256=bytes(32))
    assert BreakKind.ANCHOR in {one.kind for one in RecordCheck([wrong]).take(ENTRIES[0])}
    unreadable = replace(ENTRIES[0], digest=None)
    found = RecordCheck([_anchored(ENTRIES[0])]).take(unreadable)  # type: ignore[arg-type]
    assert BreakKind.ANCHOR in {one.kind for one in found}


def _anchored(entry: AuditEntry) -> Anchored:
    return Anchored(entry.number, said(entry).sha256, entry.at, entry.number)


# ------------------------------------------------------------------- what entries say


def test_an_entry_about_destroyed_content_names_the_last_removals_and_counts_the_rest() -> None:
    removals = [
        (Removal(f"a{n}", None, "Ayşe", RemovalCause.OWNER, T0 + n * HOUR), f"a{n}@hs91.kep.tr")
        for n in range(40)
    ]
    text = destroyed_detail(ContentPart.ORIGINAL, bytes(32), bytes(64), 7, removals)
    assert "a39@hs91.kep.tr" in text
    assert "a0@hs91.kep.tr" not in text
    assert text.endswith(f"and {40 - text.count('@')} before")
    alone = destroyed_detail(ContentPart.ORIGINAL, bytes(32), bytes(64), 7, removals[:1])
    assert "before" not in alone
    assert "no mailbox" in destroyed_detail(ContentPart.ORIGINAL, bytes(32), bytes(64), 7, [])


@pytest.mark.parametrize("reason", ["", "  \n", "x" * 100_000, "bell \x07"])
def test_nobody_retires_an_anchor_without_a_reason_that_can_be_read(reason: str) -> None:
    anchor = TrustAnchor(bytes(32), b"der", AnchorKind.ROOT, "TEST", AnchorState.ACTIVE, "Ayşe Yılmaz", T0)
    assert retire(anchor, "Ayşe Yılmaz", T0, "key lost").state is AnchorState.RETIRED
    with pytest.raises(TrustListError):
        retire(anchor, "Ayşe Yılmaz", T0, reason)
