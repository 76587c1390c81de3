"""An object of the archive: the same contents give the same octets, and no octet of it changes unseen."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import cache
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.bundle.archive_object import (
    SUFFIX,
    ArchivedCheckpoint,
    ArchivedEvidence,
    ArchiveObjectError,
    EvidenceContents,
    ObjectKind,
    from_micros,
    material_name,
    micros,
    object_name,
    plan_evidence,
    plan_process,
)
from evidence.bundle.archive_read import judge_object, read_object
from evidence.ledger.chain import append
from evidence.report import Verdict
from tests.support.evidence_samples import AT
from tests.support.sealed import LATER, STAMPED, sealer, trust

DOMAIN = "hs91.kep.tr"


def contents(count: int = 3, first: int = 1) -> EvidenceContents:
    made, last = [], None
    for n in range(first + count - 1):
        xml = f"<Delil n='{n}'/>".encode()
        last = append(
            last, evidence_id=f"e{n}", evidence_sha256=sha256(xml).digest(), at=AT + timedelta(seconds=n),
            salt=sha256(b"salt%d" % n).digest(),
        )  # fmt: skip
        if last.number >= first:
            row = {"message_id": "m1", "kind": 10, "account_id": None}
            made.append(
                ArchivedEvidence(last, xml, b"ers%d" % n, row, b"proof", (material_name(b"c", "cer"),))
            )
    checkpoint = ArchivedCheckpoint(9, bytes(32), "note\n", AT)
    return EvidenceContents(
        DOMAIN, made, {material_name(b"c", "cer"): b"c"}, [checkpoint],
        authorities=[(material_name(b"c", "cer"),)],
    )  # fmt: skip


def written(made: EvidenceContents | None = None) -> bytes:
    return plan_evidence(made or contents(), sealed_at=LATER).write(b"\x30\x00")


@cache
def sealed() -> bytes:
    plan = plan_evidence(contents(), sealed_at=STAMPED)
    return plan.write(asyncio.run(sealer().sign_entity(plan.digest, STAMPED)))


def test_the_same_contents_give_the_same_octets() -> None:
    assert written() == written(contents())


def test_what_went_in_comes_out() -> None:
    made = contents(first=4)
    one = read_object(written(made), name=object_name(ObjectKind.EVIDENCE, 4, 6, made.evidences[0].entry.at))
    assert list(one.evidences) == list(made.evidences)
    assert list(one.checkpoints) == list(made.checkpoints)
    assert (one.first, one.last, one.sealed_at, one.provider) == (4, 6, LATER, DOMAIN)
    assert one.authorities == ((material_name(b"c", "cer"),),)


def test_process_records_come_out_by_number() -> None:
    records = [(n, b'{"number":%d}' % n) for n in range(7, 10)]
    one = read_object(plan_process(DOMAIN, records, sealed_at=LATER).write(b"x"))
    assert list(one.records) == records
    assert one.kind is ObjectKind.PROCESS


def test_names_follow_from_the_entries_alone() -> None:
    assert object_name(ObjectKind.EVIDENCE, 1, 1000, AT) == (
        f"delil/{AT:%Y/%m/%d}/000000000001-000000001000{SUFFIX}"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda c: replace(c, evidences=[]),
        lambda c: replace(c, evidences=[c.evidences[0], c.evidences[2]]),
        lambda c: replace(c, evidences=[replace(c.evidences[0], xml=b"other"), *c.evidences[1:]]),
    ],
    ids=["nothing", "gap", "other-bytes"],
)
def test_entries_that_do_not_hold_together_make_no_object(change) -> None:
    with pytest.raises(ArchiveObjectError):
        plan_evidence(change(contents()), sealed_at=LATER)


@settings(max_examples=300)
@given(at=st.integers(0, len(written()) - 1), bit=st.integers(0, 7))
def test_one_flipped_bit_anywhere_is_seen(at: int, bit: int) -> None:
    """The form and both digests see all but the seal's own bytes, which are for `judge_object`."""
    data = bytearray(sealed())
    at %= len(data)
    data[at] ^= 1 << bit
    try:
        one = read_object(bytes(data))
    except ArchiveObjectError:
        return
    assert judge_object(one, trust(), LATER).verdict is not Verdict.PASSED


@given(cut=st.integers(0, 4000))
def test_a_cut_object_is_none(cut: int) -> None:
    data = written()
    with pytest.raises(ArchiveObjectError):
        read_object(data[: min(cut, len(data) - 1)])


@given(junk=st.binary(max_size=300))
def test_junk_is_no_object(junk: bytes) -> None:
    with pytest.raises(ArchiveObjectError):
        read_object(junk)


def test_a_sealed_object_is_judged_by_signature_stamp_chain_and_role() -> None:
    one = read_object(sealed())
    assert judge_object(one, trust(), LATER).verdict is Verdict.PASSED
    foreign = replace(one, provider="hs92.kep.tr")
    assert judge_object(foreign, trust(), LATER).verdict is not Verdict.PASSED
    other = replace(one, head=one.head.replace(b'"first":1', b'"first":2'))
    assert judge_object(other, trust(), LATER).verdict is Verdict.FAILED
    assert judge_object(one, None, LATER).verdict is Verdict.INDETERMINATE


def test_another_name_is_refused() -> None:
    made = contents()
    at = made.evidences[0].entry.at
    for name in (
        object_name(ObjectKind.EVIDENCE, 2, 3, at),
        object_name(ObjectKind.EVIDENCE, 1, 3, at + timedelta(days=1)),
        object_name(ObjectKind.PROCESS, 1, 3, at),
    ):
        with pytest.raises(ArchiveObjectError, match="name"):
            read_object(written(made), name=name)


@pytest.mark.parametrize(
    "edit",
    [
        (b'"first":1', b'"first":true'),
        (b'"kind":"delil"', b'"kind":"surec"'),
        (b'"row":{', b'"row":[{'),
        (b'"number":1,', b'"number":"1",'),
        (b'"format":"kephs-archive-1"', b'"format":"kephs-archive-9"'),
        (b'"evidence":', b'"evidence" :' + b"[" * 5000),
    ],
    ids=["true", "kind", "row", "text-number", "format", "deep"],
)
def test_a_head_of_odd_types_is_refused_not_believed(edit: tuple[bytes, bytes]) -> None:
    plan = plan_evidence(contents(), sealed_at=LATER)
    assert edit[0] in plan.head
    with pytest.raises(ArchiveObjectError):
        read_object(replace(plan, head=plan.head.replace(*edit, 1)).write(b"x"))


@given(st.datetimes(min_value=AT.replace(tzinfo=None, year=1900)))
def test_times_are_kept_to_the_microsecond(at) -> None:
    at = at.replace(tzinfo=AT.tzinfo)
    assert from_micros(micros(at)) == at
