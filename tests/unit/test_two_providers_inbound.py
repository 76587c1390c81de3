"""What hs92 does with dispatches that are not what they should be: refused, 21, or 4xx without a trace."""

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from cryptography.x509 import ReasonFlags
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.model.records import MessageFacts, Party
from evidence.ports import BytesSource
from evidence.verify.message import check_kep_message
from kephs.domain.mailboxes import FolderRole
from kephs.domain.refusals import RefusalCode
from kephs.ports import ScannerUnavailableError
from kephs.usecases.submission.results import Refused, Taken
from tests.support.pair import (
    DENIZ,
    Pair,
    Seen,
    arrive_from,
    dispatch_of,
    new_pair,
    peer_of,
    registered,
    sealer_of,
    seen,
    transaction_of,
    untouched,
)
from tests.support.pki import NOW, ayse, make_pki, shared_pki
from tests.support.world import AYSE, CAN, DOMAIN, FATMA, PEER, compose, signed

TEN: Seen = (10, (), None, "hs91")
TWENTY: Seen = (20, (), None, "hs92")
FORTY: Seen = (40, (), 1, "hs92")
ORIGINAL = compose(to=(FATMA,))
UNKNOWN = f"yok.kimse@{PEER}"


@pytest.fixture
async def pair() -> Pair:
    return await new_pair()


def code(answer: Taken | Refused) -> RefusalCode:
    assert isinstance(answer, Refused), answer
    assert answer.evidence_id is None
    return answer.refusal.code


async def inbox(pair: Pair, address: str = FATMA) -> int:
    return await pair.there.count(address, FolderRole.INBOX)


# --------------------------------------------------------------------------- whose seal is it


async def test_a_genuine_dispatch_is_taken_so_the_forgeries_below_fail_for_their_own_fault(
    pair: Pair,
) -> None:
    answer = await pair.there_gets(await dispatch_of(pair.here, ORIGINAL))
    assert isinstance(answer, Taken)
    await pair.there.work()
    assert await seen(pair.there) == [TEN, TWENTY, FORTY]
    assert await inbox(pair) == 1


@pytest.mark.parametrize(
    "part", [b"bildiririz", b"rem_message/original", b"MIISK", b"X-REM-Evidence-Identifier"]
)
async def test_one_flipped_byte_is_refused_without_evidence(pair: Pair, part: bytes) -> None:
    content = bytearray(await dispatch_of(pair.here, ORIGINAL))
    at = content.find(part)
    content[at if at > 0 else len(content) * 2 // 3] ^= 1
    answer = code(await pair.there_gets(bytes(content)))
    assert answer in {RefusalCode.SEAL_BROKEN, RefusalCode.NOT_A_KEP_MESSAGE}
    assert await untouched(pair.there)


async def test_a_seal_under_a_foreign_root_is_refused(pair: Pair) -> None:
    foreign = sealer_of(pair.here, make_pki().transactions[DOMAIN])
    content = await dispatch_of(pair.here, ORIGINAL, sealed_by=foreign, evidence_by=foreign)
    assert code(await pair.there_gets(content)) is RefusalCode.SEAL_NOT_REGISTERED
    assert await untouched(pair.there)


async def test_a_registered_certificate_under_a_root_we_do_not_trust_seals_nothing(pair: Pair) -> None:
    issued = make_pki().transactions[DOMAIN]
    pair.there.peers[DOMAIN] = peer_of(DOMAIN, certificates=(registered(issued),))
    foreign = sealer_of(pair.here, issued)
    content = await dispatch_of(pair.here, ORIGINAL, sealed_by=foreign, evidence_by=foreign)
    assert code(await pair.there_gets(content)) is RefusalCode.SEAL_BROKEN
    assert await untouched(pair.there)


async def test_an_unregistered_transaction_certificate_of_the_peers_name_is_refused(pair: Pair) -> None:
    other = sealer_of(pair.here, shared_pki().issue_transaction(DOMAIN, "TEST hs91"))
    content = await dispatch_of(pair.here, ORIGINAL, sealed_by=other, evidence_by=other)
    assert code(await pair.there_gets(content)) is RefusalCode.SEAL_NOT_REGISTERED
    assert await untouched(pair.there)


async def test_evidence_under_an_unregistered_certificate_is_refused_though_the_seal_is_good(
    pair: Pair,
) -> None:
    other = sealer_of(pair.here, shared_pki().issue_transaction(DOMAIN, "TEST hs91"))
    content = await dispatch_of(pair.here, ORIGINAL, evidence_by=other)
    assert code(await pair.there_gets(content)) is RefusalCode.EVIDENCE_NOT_THE_PEERS
    assert await untouched(pair.there)


async def test_a_holders_certificate_seals_nothing(pair: Pair) -> None:
    content = await dispatch_of(pair.here, ORIGINAL, sealed_by=sealer_of(pair.here, ayse()))
    assert code(await pair.there_gets(content)) is RefusalCode.SEAL_NOT_REGISTERED


async def test_our_own_seal_coming_back_to_us_is_refused(pair: Pair) -> None:
    content = await dispatch_of(pair.there, ORIGINAL)
    assert code(await pair.there_gets(content)) is RefusalCode.SEAL_NOT_REGISTERED
    assert await untouched(pair.there)


async def test_both_certificates_count_while_a_peer_renews_its_own(pair: Pair) -> None:
    renewed = shared_pki().issue_transaction(DOMAIN, "TEST hs91")
    both = (registered(transaction_of(DOMAIN)), registered(renewed))
    pair.there.peers[DOMAIN] = peer_of(DOMAIN, certificates=both)
    content = await dispatch_of(pair.here, ORIGINAL, sealed_by=sealer_of(pair.here, renewed))
    assert isinstance(await pair.there_gets(content), Taken)
    assert await seen(pair.there) == [TEN, TWENTY]


async def test_a_certificate_that_the_register_ended_makes_21_reason_22(pair: Pair) -> None:
    ended = registered(transaction_of(DOMAIN), end=NOW - timedelta(hours=1))
    pair.there.peers[DOMAIN] = peer_of(DOMAIN, certificates=(ended,))
    message_id = await pair.send()
    await pair.work()
    assert await seen(pair.there) == [(21, (22,), None, "hs92")]
    assert await seen(pair.here) == [(10, (), None, "hs91"), (21, (22,), None, "hs92")]
    assert await pair.states(message_id) == ["rejected"]
    assert (await pair.there.evidence())[0].reasons[0].details.startswith("seal-expired: ")


async def test_evidence_of_an_ended_certificate_under_a_good_seal_makes_21_reason_22(pair: Pair) -> None:
    old = shared_pki().issue_transaction(DOMAIN, "TEST hs91")
    both = (registered(transaction_of(DOMAIN)), registered(old, end=NOW - timedelta(hours=1)))
    pair.there.peers[DOMAIN] = peer_of(DOMAIN, certificates=both)
    content = await dispatch_of(pair.here, ORIGINAL, evidence_by=sealer_of(pair.here, old))
    assert isinstance(await pair.there_gets(content), Taken)
    assert await seen(pair.there) == [(21, (22,), None, "hs92")]


async def test_a_certificate_that_had_expired_when_it_sealed_is_refused(pair: Pair) -> None:
    short = shared_pki().issue_transaction(DOMAIN, "TEST", not_after=NOW + timedelta(minutes=5))
    pair.there.peers[DOMAIN] = peer_of(DOMAIN, certificates=(registered(short),))
    sealer = sealer_of(pair.here, short)
    pair.there.clock.at += timedelta(hours=1)
    late = pair.here.tsa.clock
    pair.here.clock = type(
        late
    )()  # claims a time at which the certificate was still good; the stamp does not
    pair.here.records = replace(pair.here.records, clock=pair.here.clock)
    content = await dispatch_of(pair.here, ORIGINAL, sealed_by=sealer, evidence_by=sealer)
    assert code(await pair.there_gets(content)) in {
        RefusalCode.SEAL_EXPIRED,
        RefusalCode.EVIDENCE_NOT_THE_PEERS,
    }
    assert await untouched(pair.there)


@pytest.mark.parametrize("whose", ["sealed_by", "evidence_by"])
async def test_a_revoked_certificate_is_refused_whether_it_made_seal_or_evidence(
    pair: Pair, whose: str
) -> None:
    revoked = shared_pki().issue_transaction(DOMAIN, "TEST hs91")
    shared_pki().revoke(revoked.serial, NOW - timedelta(hours=1), ReasonFlags.key_compromise)
    both = (registered(transaction_of(DOMAIN)), registered(revoked))
    pair.there.peers[DOMAIN] = peer_of(DOMAIN, certificates=both)
    spoiled: dict[str, Any] = {whose: sealer_of(pair.here, revoked)}
    content = await dispatch_of(pair.here, ORIGINAL, **spoiled)
    assert code(await pair.there_gets(content)) is RefusalCode.SEAL_REVOKED
    assert await untouched(pair.there)


# --------------------------------------------------------------------------- what the evidence says


async def test_evidence_signed_with_the_other_providers_key_is_refused(pair: Pair) -> None:
    content = await dispatch_of(pair.here, ORIGINAL, evidence_by=pair.there.sealer)
    assert code(await pair.there_gets(content)) is RefusalCode.EVIDENCE_NOT_THE_PEERS
    assert await untouched(pair.there)


async def test_a_peer_cannot_seal_for_a_third_provider(pair: Pair) -> None:
    content = await dispatch_of(
        pair.here, ORIGINAL, evidence_by=pair.there.sealer, issuer=pair.there.issuer,
        service=pair.there.issuer.address,
    )  # fmt: skip
    assert code(await pair.there_gets(content)) is RefusalCode.EVIDENCE_NOT_THE_PEERS
    assert await untouched(pair.there)


@pytest.mark.parametrize(
    "foreign",
    [
        {"sender": Party(CAN, "Can Öztürk")},  # one of our own holders
        {"sender": Party(DENIZ)},
        {"sender": Party("ayse@example.org")},
        {"evidence_id": f"1@{PEER}"},
        {"message": MessageFacts("Konu", None, f"1@{PEER}", b"\x00" * 32)},
        {"message": MessageFacts("Konu", None, "1@hs93.kep.tr", b"\x00" * 32)},
    ],
    ids=[
        "our-holder",
        "a-thirds-holder",
        "no-kep-address",
        "our-evidence-id",
        "our-message-id",
        "a-thirds-message-id",
    ],
)
async def test_a_dispatch_may_name_nobody_and_nothing_but_its_own_providers(
    pair: Pair, foreign: dict[str, Any]
) -> None:
    if "message" in foreign:
        foreign = {"message": replace(foreign["message"], digest_sha256=sha256(ORIGINAL).digest())}
    content = await dispatch_of(pair.here, ORIGINAL, **foreign)
    assert code(await pair.there_gets(content)) is RefusalCode.EVIDENCE_NOT_THE_PEERS
    assert await untouched(pair.there)


async def test_another_original_than_the_evidence_is_about_makes_21_reason_1(pair: Pair) -> None:
    other = MessageFacts("Konu", None, f"77@{DOMAIN}", b"\x01" * 32)
    answer = await pair.there_gets(await dispatch_of(pair.here, ORIGINAL, message=other))
    assert isinstance(answer, Taken)
    await pair.there.work()
    assert await seen(pair.there) == [(21, (1,), None, "hs92")]
    assert await inbox(pair) == 0


# --------------------------------------------------------------------------- the same again


async def test_the_same_dispatch_again_gets_the_first_answer_even_after_delivery(pair: Pair) -> None:
    content = await dispatch_of(pair.here, ORIGINAL)
    first = await pair.there_gets(content)
    await pair.there.work()
    assert await pair.there_gets(content) == first
    assert await pair.there_gets(content, to=(AYSE,)) == first  # the envelope only carries
    await pair.there.work()
    assert await seen(pair.there) == [TEN, TWENTY, FORTY]
    assert await inbox(pair) == 1


async def test_a_refused_dispatch_again_gets_the_same_21(pair: Pair) -> None:
    pair.there.scanner.found = "Eicar-Test"
    content = await dispatch_of(pair.here, ORIGINAL)
    first = await pair.there_gets(content)
    pair.there.scanner.found = ""
    assert await pair.there_gets(content) == first
    assert await seen(pair.there) == [(21, (2,), None, "hs92")]
    assert await inbox(pair) == 0


async def test_another_original_under_a_known_id_makes_21_reason_5_and_the_first_stays_delivered(
    pair: Pair,
) -> None:
    one, two = compose(to=(FATMA,), subject="bir"), compose(to=(FATMA,), subject="iki")
    first = await dispatch_of(pair.here, one)
    taken = await pair.there_gets(first)
    assert isinstance(taken, Taken)
    facts = MessageFacts("iki", None, taken.message_id, sha256(two).digest())
    again = await dispatch_of(pair.here, two, message=facts)
    answers = [await pair.there_gets(again) for _ in range(2)]
    await pair.there.work()
    assert answers[0] == answers[1] != taken
    assert await seen(pair.there) == [TEN, TWENTY, (21, (5,), None, "hs92"), FORTY]
    assert await inbox(pair) == 1


# --------------------------------------------------------------------------- not now


async def test_a_silent_tsa_at_the_recipients_provider_is_451_and_later_all_is_well(pair: Pair) -> None:
    pair.there.tsa.down = True
    message_id = await pair.send()
    await pair.work()
    assert code(pair.out.answers[0]) is RefusalCode.SEALING_UNAVAILABLE
    assert await untouched(pair.there)
    transfer = await pair.transfer(message_id)
    assert (transfer.state.value, transfer.cause) == ("queued", "refused-for-now")
    pair.there.tsa.down = False
    await pair.later(minutes=1)
    assert await seen(pair.here) == [(10, (), None, "hs91"), TWENTY, FORTY]
    assert await pair.states(message_id) == ["delivered"]


async def test_a_silent_scanner_or_ocsp_is_4xx_without_a_trace(pair: Pair) -> None:
    content = await dispatch_of(pair.here, ORIGINAL)
    pair.there.ocsp.down = True
    assert code(await pair.there_gets(content)) is RefusalCode.REVOCATION_UNKNOWN
    pair.there.ocsp.down = False
    pair.there.scanner.error = ScannerUnavailableError("gone")
    assert code(await pair.there_gets(content)) is RefusalCode.SCANNER_UNAVAILABLE
    assert await untouched(pair.there)
    pair.there.scanner.error = None
    assert isinstance(await pair.there_gets(content), Taken)


async def test_a_closed_store_is_4xx_without_a_trace(pair: Pair) -> None:
    content = await dispatch_of(pair.here, ORIGINAL)
    pair.there.store._open = False
    assert code(await pair.there_gets(content)) is RefusalCode.STORE_UNAVAILABLE
    pair.there.store._open = True
    assert await untouched(pair.there)
    assert isinstance(await pair.there_gets(content), Taken)


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_clock_an_hour_off_makes_no_wrong_evidence_and_every_recipient_ends_once(hours: int) -> None:
    """The time-stamping authority's time is right: whoever is off is found out, on either side."""
    pair = await new_pair(skew=timedelta(hours=hours))
    message_id = await pair.send()
    await pair.work()
    await pair.later(days=2)
    await pair.later(hours=1)
    (state,) = await pair.states(message_id)
    kinds = [(kind, reasons) for kind, reasons, _, _ in await seen(pair.here)]
    if (
        hours > 0
    ):  # its events lie after their stamps: its receipts are refused here, and nothing it says counts
        assert (state, kinds) == ("unreached", [(10, ()), (31, (9,))])
        assert all(isinstance(answer, Refused) for answer in pair.back.answers)
    else:  # our stamps lie in its future: it takes nothing
        assert (state, kinds) == ("unreached", [(10, ()), (31, (6,))])
        assert await seen(pair.there) == []


# --------------------------------------------------------------------------- strangers and machines


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"Subject: x\r\n\r\nHi\r\n",
        ORIGINAL,
        ORIGINAL.replace(b"Subject", b"Auto-Submitted: auto-replied\r\nSubject"),
        b'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n--b\r\n\r\nDSN\r\n--b--\r\n',
    ],
    ids=["empty", "bare", "unsigned", "auto-reply", "dsn"],
)
@pytest.mark.parametrize("sender", ["", "biri@example.org"], ids=["null-sender", "stranger"])
async def test_ordinary_mail_is_refused_without_evidence(pair: Pair, content: bytes, sender: str) -> None:
    answer = await arrive_from(pair.there, sender, (FATMA,), content)
    assert code(answer) is RefusalCode.NOT_A_KEP_MESSAGE
    assert await untouched(pair.there)


async def test_parts_nested_without_end_are_refused_without_evidence(pair: Pair) -> None:
    depth = 300
    heads = [f'Content-Type: multipart/mixed; boundary="b{n}"\r\n\r\n--b{n}\r\n' for n in range(depth)]
    content = ("MIME-Version: 1.0\r\n" + "".join(heads) + "\r\nend\r\n").encode()
    assert code(await pair.there_gets(content)) is RefusalCode.NOT_A_KEP_MESSAGE
    assert await untouched(pair.there)


async def test_a_holders_signed_message_is_no_kep_message(pair: Pair) -> None:
    answer = await arrive_from(pair.there, AYSE, (FATMA,), await signed(ORIGINAL, ayse()))
    assert code(answer) is RefusalCode.NOT_A_KEP_MESSAGE
    assert await untouched(pair.there)


async def test_a_dispatch_from_the_null_sender_or_marked_automatic_is_refused(pair: Pair) -> None:
    content = await dispatch_of(pair.here, ORIGINAL)
    assert code(await pair.there_gets(content, sender="")) is RefusalCode.MAIL_LOOP
    marked = b"Auto-Submitted: auto-forwarded\r\n" + content
    assert code(await pair.there_gets(marked)) is RefusalCode.MAIL_LOOP
    assert isinstance(await pair.there_gets(b"Auto-Submitted: no\r\n" + content), Taken)


async def test_nul_and_long_lines_are_refused_before_anything_is_read(pair: Pair) -> None:
    content = await dispatch_of(pair.here, ORIGINAL)
    assert code(await pair.there_gets(content, nul=True)) is RefusalCode.NUL_BYTE
    assert code(await pair.there_gets(content, line_too_long=True)) is RefusalCode.LINE_TOO_LONG
    assert await untouched(pair.there)


@settings(max_examples=40)
@given(data=st.data())
async def test_one_changed_byte_anywhere_never_changes_what_is_delivered(data: st.DataObject) -> None:
    pair = await new_pair()
    content = bytearray(await dispatch_of(pair.here, ORIGINAL))
    at = data.draw(st.integers(0, 9999)) * len(content) // 10_000  # the length varies with the signatures'
    content[at] ^= data.draw(st.integers(1, 255))
    answer = await pair.there_gets(bytes(content))
    if isinstance(answer, Refused):
        assert await untouched(pair.there)
        return
    # what no signature covers and no evidence records may differ: letter case and folding of outer fields
    assert [kind for kind, *_ in await seen(pair.there)] == [10, 20]
    check = check_kep_message(BytesSource(bytes(content)), pair.there.trust, pair.clock.now())
    assert check.passed
