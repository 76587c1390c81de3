"""What we write, and what we say about where its parts lie, against the scanner that reads any message."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.mail.entity import STREAMED, Entity, Extent, Gap, Layout, Streamed
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


def test_messages_of_one_shape_share_a_layout_and_nothing_else():
    first, second = (
        plan_receipt(replace(ENVELOPE, to=(to,)), delivered(), boundaries=NAMES)
        for to in ("ayse@hs91.kep.tr", "b@hs91.kep.tr")
    )
    assert first.layout is second.layout
    assert first.tree(b"p7s") != second.tree(b"p7s")
    assert read_tree(second.tree(b"p7s")) == scan(BytesSource(second.finish(b"p7s")))


# ------------------------------------------------------------------- shapes of any kind

SEED = "????"
ONE, TWO, P7S = Gap(b"one"), Gap(b"two"), Gap(b"p7s")
SIGNATURE = Entity(b"Content-Type: application/pkcs7-signature\r\n\r\n", (P7S,))


def around(*parts: Entity) -> Entity:
    """Return a message whose signed entity has these parts."""
    heads = {name: f'Content-Type: multipart/mixed; boundary="{name}{SEED}"\r\n\r\n' for name in "sm"}
    mixed = Entity(heads["m"].encode(), boundary=f"m{SEED}", parts=parts)
    return Entity(heads["s"].encode(), boundary=f"s{SEED}", parts=(mixed, SIGNATURE))


BODIES = st.lists(
    st.one_of(
        st.sampled_from([ONE, TWO]), st.sampled_from([b"%", b"%b", b"{}", b"{0}", b"?", b"\r\n", b"x"])
    ),
    max_size=4,
    unique=True,
).map(tuple)
LEAVES = st.builds(
    Entity,
    st.sampled_from([
        b"\r\n", b'a: {0} %s \\ "\r\n\r\n', b"Content-Type: text/html;\r\n charset={x}%\r\nb: ?\r\n\r\n",
        b'Content-Disposition: attachment; filename="????"\r\n\r\n',
    ]),
    BODIES,
    st.just(""),
    st.just(()),
)  # fmt: skip
NESTED = st.lists(LEAVES, min_size=1, max_size=3).map(
    lambda parts: Entity(
        f'Content-Type: multipart/alternative; boundary="a{SEED}"\r\n\r\n'.encode(),
        boundary=f"a{SEED}", parts=tuple(parts),
    )
)  # fmt: skip


@given(
    parts=st.lists(st.one_of(LEAVES, NESTED), min_size=1, max_size=3),
    filled=st.fixed_dictionaries({
        gap.name: st.lists(st.sampled_from([b"\r\n", b"\n", b"%", b"{", b"text"])).map(b"".join)
        for gap in (ONE, TWO, P7S)
    }),
    subject=st.sampled_from(["", "{0}", "%s \\", '"q"', "ş", "one\r\n two\r\n\tthree"]),
    seed=st.sampled_from(["wxyz", "0123"]),
)  # fmt: skip
def test_a_shape_with_its_gaps_filled_lies_where_the_scanner_finds_it(parts, filled, subject, seed):
    message = around(*parts)
    layout = Layout.of(message, SEED)
    header = f"Subject: {subject}\r\n".encode() + message.head.replace(SEED.encode(), seed.encode())
    head, tail = layout.signed(seed, filled)
    assert tail == b""
    signature = SIGNATURE.head + filled[P7S.name]
    whole = b"".join((
        header, f"--s{seed}\r\n".encode(), head, f"\r\n--s{seed}\r\n".encode(), signature,
        f"\r\n--s{seed}--\r\n".encode(),
    ))  # fmt: skip
    extents = {name: Extent.of(value) for name, value in filled.items()}
    assert read_tree(layout.places(header, seed, extents)) == scan(BytesSource(whole))


def test_what_is_streamed_in_divides_the_octets_wherever_it_stands():
    gap = Entity(b"h\r\n\r\n", (STREAMED,))
    first, last = (Entity(b"", (b"100 %",)), Entity(b"", (ONE,)))
    layout = Layout.of(around(first, gap, last), SEED)
    before, after = layout.signed("wxyz", {b"one": b"1"})
    head = b'Content-Type: multipart/mixed; boundary="mwxyz"\r\n\r\n'
    assert before == head + b"--mwxyz\r\n100 %\r\n--mwxyz\r\nh\r\n\r\n"
    assert after == b"\r\n--mwxyz\r\n1\r\n--mwxyz--\r\n"
    assert layout.gaps == (b"header", b"streamed", b"one", b"p7s")
