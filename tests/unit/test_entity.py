"""What we write, and what we say about where its parts lie, against the scanner that reads any message."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.mail.entity import Entity, Streamed, octets, tree
from evidence.mail.mime import scan
from evidence.mail.package import Boundaries, Envelope, MessagePlan, plan_dispatch, plan_receipt
from evidence.mail.tree import read_tree, tree_text
from evidence.model.records import EvidenceKind, SealedEvidence
from evidence.ports import BytesSource
from tests.support.sealed import ORIGINAL, accepted, delivered
from tests.unit import test_rem_headers as baseline

NAMES = Boundaries.of("0123456789abcdef")
ENVELOPE = Envelope("kep-hizmet@hs91.kep.tr", to=("ayse@hs91.kep.tr",))


def streamed(original: bytes) -> Streamed:
    return Streamed(tree_text(scan(BytesSource(original))), len(original), original.count(b"\n"))


def whole(plan: MessagePlan, original: bytes, p7s: bytes) -> bytes:
    return plan.prefix + plan.entity_head + original + plan.entity_tail + plan.suffix(p7s)


def baseline_acceptance() -> SealedEvidence:
    return baseline.seal(baseline.of(EvidenceKind.SUBMISSION_ACCEPTANCE))


TEXT = st.lists(
    st.sampled_from([
        b"\r\n", b"\n", b"\r", b"--x", b"--x--", b"--y", b"--y--", b"--", b" ", b"text", b"a: b", b":",
        b'Content-Type: multipart/mixed; boundary="x"', b'Content-Type: multipart/digest; boundary="y"',
        b"Content-Type: message/rfc822", b"Content-Transfer-Encoding: base64", "ş".encode(),
    ]),
    max_size=24,
).map(b"".join)  # fmt: skip


HEADS = st.lists(
    st.sampled_from([
        b"a: b\r\n", b'Content-Type: multipart/mixed; boundary="x"\r\n', b"Content-Type: message/rfc822\r\n",
        b'Content-Type: multipart/signed;\r\n boundary="y"\r\n', b"no field\r\n",
    ]),
    min_size=1, max_size=3,
).map(b"".join)  # fmt: skip
# what is accepted is signed, so no header in it is cut off by the end
MESSAGES = st.builds(
    lambda head, body, end: head + b"\r\n" + body + end,
    HEADS,
    TEXT,
    st.sampled_from([b"\r\n\r\n.", b"\r\n\r\n.\r\n"]),
)


@given(original=st.one_of(MESSAGES, st.just(ORIGINAL)), p7s=st.binary(max_size=200))
@pytest.mark.parametrize("evidence", [accepted, baseline_acceptance], ids=["kep", "baseline"])
def test_a_dispatch_lies_where_the_scanner_finds_it(evidence, original, p7s):
    plan = plan_dispatch(ENVELOPE, evidence(), label="8bit", boundaries=NAMES)
    found = scan(BytesSource(whole(plan, original, p7s)))
    assert read_tree(plan.tree(p7s, streamed(original))) == found


@given(p7s=st.binary(max_size=200))
def test_a_receipt_lies_where_the_scanner_finds_it(p7s):
    plan = plan_receipt(ENVELOPE, delivered(), boundaries=NAMES)
    assert read_tree(plan.tree(p7s)) == scan(BytesSource(plan.finish(p7s)))


def test_a_part_that_is_one_octet_longer_lies_elsewhere():
    """The broken twin: what is compared above can differ."""
    plan = plan_receipt(ENVELOPE, delivered(), boundaries=NAMES)
    found = read_tree(plan.tree(b"p7s"))
    assert found != scan(BytesSource(plan.finish(b"p7s4")))
    assert read_tree(replace(plan, header=plan.header[:-2] + b"X: 1\r\n\r\n").tree(b"p7s")) != found


def test_a_boundary_of_one_message_never_stands_in_the_tree_of_the_next():
    first, second = (
        plan_receipt(ENVELOPE, delivered(), boundaries=Boundaries.of(seed))
        for seed in ("0123456789", "9876543210")
    )
    assert "0123456789" in first.tree(b"p7s")
    assert "0123456789" not in second.tree(b"p7s")


def test_what_is_streamed_in_divides_the_octets_wherever_it_stands():
    gap = Entity(b"h\r\n\r\n", None)
    first, last = (Entity(b"", b"one"), Entity(b"", b"two"))
    before, after = octets(Entity(b"m\r\n\r\n", b"", "b", (first, gap, last)))
    assert before == b"m\r\n\r\n--b\r\none\r\n--b\r\nh\r\n\r\n"
    assert after == b"\r\n--b\r\ntwo\r\n--b--\r\n"
    assert octets(first) == (b"one", b"")


def test_a_gap_at_the_end_of_a_message_is_all_that_follows_its_header():
    text = tree(Entity(b"Content-Type: message/rfc822\r\n\r\n", None), streamed(ORIGINAL))
    assert read_tree(text) == scan(BytesSource(b"Content-Type: message/rfc822\r\n\r\n" + ORIGINAL))
