"""The life of a message through the use cases, over the in-memory twins with real signatures."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.x509 import ReasonFlags

from directory.accounts import AccountKind, AccountState, ServiceType
from evidence.model.records import EvidenceKind, ReasonCode
from kephs.domain.lifecycle import MessageState
from kephs.domain.mailboxes import FolderRole
from kephs.domain.refusals import RefusalCode
from kephs.ports import ScannerUnavailableError
from kephs.usecases.people.accounts import Opening
from kephs.usecases.submission.results import Accepted, Refused
from tests.support.pki import AYSE_TCKN, NOW, ayse, make_pki, mehmet, shared_pki
from tests.support.signers import opaque_message
from tests.support.world import AYSE, DOMAIN, KURUM, MEHMET, compose, new_world, password_of, signed

K = EvidenceKind


@pytest.fixture
async def world():
    return await new_world()


async def test_an_accepted_message_has_evidence_10_and_lies_in_giden_before_the_answer(world):
    answer = await world.send(await signed(compose(), ayse()))
    assert isinstance(answer, Accepted)
    (record,) = await world.evidence()
    assert record.kind is K.SUBMISSION_ACCEPTANCE
    assert record.evidence_id == answer.evidence_id
    assert record.message.kep_message_id == answer.message_id
    assert [p.address for p in record.recipients] == [MEHMET]
    assert record.sender.address == AYSE
    assert await world.count(AYSE, FolderRole.SENT) == 1


async def test_delivery_puts_the_kep_message_into_the_mailbox_with_evidence_40(world):
    await world.send(await signed(compose(to=(MEHMET, KURUM)), ayse()), to=(MEHMET, KURUM))
    await world.work()
    assert await world.kinds() == [K.SUBMISSION_ACCEPTANCE, K.DELIVERY, K.DELIVERY]
    assert await world.count(MEHMET, FolderRole.INBOX) == await world.count(KURUM, FolderRole.INBOX) == 1
    assert [record.refers_to for record in await world.evidence()] == [None, 1, 2]
    assert await world.count(AYSE, FolderRole.EVIDENCE) == 3


async def test_work_repeated_after_everything_is_done_changes_nothing(world):
    await world.send(await signed(compose(), ayse()))
    await world.work()
    (message,) = await world.store.read(lambda tx: list(tx.messages.all()))
    assert message.state is MessageState.COMPLETED
    await world.deliver.deliver(replace(message, state=MessageState.ACCEPTED))
    assert await world.kinds() == [K.SUBMISSION_ACCEPTANCE, K.DELIVERY]
    assert await world.count(MEHMET, FolderRole.INBOX) == 1


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (None, ReasonCode.UNKNOWN_RECIPIENT),
        (AccountState.CLOSED, ReasonCode.UNKNOWN_RECIPIENT),
        (AccountState.WAITING, ReasonCode.UNKNOWN_RECIPIENT),
        (AccountState.BLOCKED, ReasonCode.POLICY_VIOLATION),
    ],
)
async def test_who_cannot_receive_here_gets_41_while_the_message_is_accepted(world, state, reason):
    nobody = f"yok.kimse@{DOMAIN}"
    to = MEHMET if state else nobody
    if state:
        account = await world.accounts.find(MEHMET)
        await world.store.write(
            lambda tx: tx.accounts.set_state(account.account_id, state, world.clock.now())
        )
    answer = await world.send(await signed(compose(to=(to,)), ayse()), to=(to,))
    assert isinstance(answer, Accepted)
    await world.work()
    last = (await world.evidence())[-1]
    assert last.kind is K.NON_DELIVERY
    assert [r.code for r in last.reasons] == [reason]


async def test_the_first_reading_makes_60_once_and_names_the_person(world):
    await world.send(await signed(compose(to=(KURUM,)), ayse()), to=(KURUM,))
    await world.work()
    reader = await world.person(KURUM)
    delivery = (await deliveries(world))[0]
    world.sealer.together = asyncio.Barrier(2)  # both have sealed a 60 before either stores its own
    both = await asyncio.gather(*(world.reader.expose(reader, [delivery.delivery_id]) for _ in range(2)))
    assert both == [frozenset({delivery.delivery_id})] * 2
    records = [r for r in await world.evidence() if r.kind is K.RETRIEVAL]
    assert len(records) == 1
    assert records[0].recipient_authentication.person == "Zeynep Işık"
    assert records[0].delegate.name == "Zeynep Işık"


async def test_nothing_may_be_shown_while_60_cannot_be_made(world):
    await world.send(await signed(compose(), ayse()))
    await world.work()
    delivery = (await deliveries(world))[0]
    world.tsa.down = True
    reader = await world.person(MEHMET)
    assert await world.reader.expose(reader, [delivery.delivery_id]) == frozenset()
    world.tsa.down = False
    assert await world.reader.expose(reader, [delivery.delivery_id]) == {delivery.delivery_id}


async def test_nobody_reads_a_delivery_of_another_account(world):
    await world.send(await signed(compose(), ayse()))
    await world.work()
    delivery = (await deliveries(world))[0]
    assert await world.reader.expose(await world.person(KURUM), [delivery.delivery_id]) == frozenset()
    assert K.RETRIEVAL not in await world.kinds()


async def test_the_same_bytes_again_get_the_first_answer_and_no_new_evidence(world):
    message = await signed(compose(), ayse())
    first, second = await world.send(message), await world.send(message)
    assert first == second
    assert await world.kinds() == [K.SUBMISSION_ACCEPTANCE]


async def test_the_same_bytes_twice_at_one_moment_are_one_message(world):
    message = await signed(compose(), ayse())
    world.sealer.together = asyncio.Barrier(4)  # all four have passed every check before one is stored
    answers = await asyncio.gather(*(world.send(message) for _ in range(4)))
    assert len(set(answers)) == 1
    assert await world.kinds() == [K.SUBMISSION_ACCEPTANCE]


async def test_the_same_message_id_with_other_bytes_is_refused(world):
    await world.send(await signed(compose(), ayse()))
    answer = await world.send(await signed(compose(subject="başka"), ayse()))
    assert refused(answer) is RefusalCode.DUPLICATE_ID
    assert await world.kinds() == [K.SUBMISSION_ACCEPTANCE, K.SUBMISSION_REJECTION]


async def test_a_refused_message_id_is_not_remembered(world):
    assert refused(await world.send(compose())) is RefusalCode.UNSIGNED
    assert isinstance(await world.send(await signed(compose(), ayse())), Accepted)


@pytest.mark.parametrize(
    ("message", "arguments", "code"),
    [
        (compose(), {}, RefusalCode.UNSIGNED),
        (compose(Bcc=KURUM), {}, RefusalCode.BCC_PRESENT),
        (compose(sender=MEHMET), {}, RefusalCode.FROM_DIFFERS),
        (compose(sender=f'"{MEHMET}" <{AYSE}>'), {}, RefusalCode.FROM_DIFFERS),
        (compose(to=("biri@gmail.com",)), {"to": ("biri@gmail.com",)}, RefusalCode.RECIPIENT_NOT_KEP),
        (compose(to=("a.b@hs77.kep.tr",)), {"to": ("a.b@hs77.kep.tr",)}, RefusalCode.PROVIDER_UNKNOWN),
        (compose(), {"to": (MEHMET, KURUM)}, RefusalCode.RECIPIENTS_DIFFER),
        (compose(), {"any_refused": True}, RefusalCode.RECIPIENTS_DIFFER),
        (compose(), {"nul": True}, RefusalCode.NUL_BYTE),
        (compose(), {"line_too_long": True}, RefusalCode.LINE_TOO_LONG),
        (b"hello\r\n", {}, RefusalCode.NOT_MIME),
        (b"", {}, RefusalCode.NOT_MIME),
    ],
)
async def test_bad_form_is_refused_with_evidence_11(world, message, arguments, code):
    answer = await world.send(message, **arguments)
    assert refused(answer) is code
    (record,) = await world.evidence()
    assert record.kind is K.SUBMISSION_REJECTION
    assert record.evidence_id == answer.evidence_id
    assert record.reasons[0].details.startswith(code.value)
    await world.work()
    assert await world.count(AYSE, FolderRole.EVIDENCE) == 1
    assert await world.count(AYSE, FolderRole.SENT) == 0


async def test_one_flipped_byte_breaks_the_signature(world):
    message = bytearray(await signed(compose(), ayse()))
    message[message.index(b"bildiririz")] ^= 1
    assert refused(await world.send(bytes(message))) is RefusalCode.SIGNATURE_BROKEN


async def test_somebody_elses_perfect_signature_is_refused(world):
    assert refused(await world.send(await signed(compose(), mehmet()))) is RefusalCode.SIGNER_NOT_AUTHORISED


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (
            {"not_after": NOW - timedelta(days=1), "not_before": NOW - timedelta(days=9)},
            RefusalCode.CERTIFICATE_EXPIRED,
        ),
        ({"qualified": False}, RefusalCode.CERTIFICATE_NOT_QUALIFIED),
        ({"btk": False}, RefusalCode.CERTIFICATE_NOT_QUALIFIED),
        ({"non_repudiation": False}, RefusalCode.CERTIFICATE_NOT_QUALIFIED),
        ({"user_notice": False}, RefusalCode.CERTIFICATE_NOT_QUALIFIED),
        ({"mali_muhur": True}, RefusalCode.CERTIFICATE_NOT_QUALIFIED),
    ],
)
async def test_a_certificate_with_one_fault_is_refused(world, spoil, code):
    bad = shared_pki().issue_user("Ayşe Yılmaz", AYSE_TCKN, **spoil)
    assert refused(await world.send(await signed(compose(), bad))) is code


async def test_a_revoked_certificate_is_refused(world):
    revoked = shared_pki().issue_user("Ayşe Yılmaz", AYSE_TCKN)
    shared_pki().revoke(revoked.serial, NOW - timedelta(hours=1), ReasonFlags.key_compromise)
    assert refused(await world.send(await signed(compose(), revoked))) is RefusalCode.CERTIFICATE_REVOKED


async def test_a_transaction_certificate_is_no_senders(world):
    transaction = shared_pki().transactions[DOMAIN]
    assert (
        refused(await world.send(await signed(compose(), transaction)))
        is RefusalCode.CERTIFICATE_NOT_QUALIFIED
    )


async def test_a_foreign_root_is_not_trusted(world):
    foreign = make_pki().issue_user("Ayşe Yılmaz", AYSE_TCKN)
    assert refused(await world.send(await signed(compose(), foreign))) is RefusalCode.SIGNATURE_UNTRUSTED


async def test_silent_ocsp_and_crl_make_the_message_wait_without_a_trace(world):
    world.ocsp.down = True
    answer = await world.send(await signed(compose(), ayse()))
    assert refused(answer) is RefusalCode.REVOCATION_UNKNOWN
    assert answer.evidence_id is None
    assert await world.evidence() == []
    world.ocsp.down = False
    assert isinstance(await world.send(await signed(compose(), ayse())), Accepted)


async def test_a_silent_tsa_makes_the_message_wait_without_a_trace(world):
    world.tsa.down = True
    for message in (await signed(compose(), ayse()), compose()):
        answer = await world.send(message)
        assert refused(answer) is RefusalCode.SEALING_UNAVAILABLE
        assert answer.evidence_id is None
    assert await world.evidence() == []
    assert await world.store.read(lambda tx: list(tx.messages.all())) == []


async def test_malware_is_refused_with_reason_2(world):
    world.scanner.found = "Eicar-Test"
    assert refused(await world.send(await signed(compose(), ayse()))) is RefusalCode.MALWARE
    assert (await world.evidence())[0].reasons[0].code is ReasonCode.MALWARE_FOUND


async def test_a_silent_scanner_makes_the_message_wait(world):
    world.scanner.error = ScannerUnavailableError("gone")
    assert refused(await world.send(await signed(compose(), ayse()))) is RefusalCode.SCANNER_UNAVAILABLE
    assert await world.evidence() == []


async def test_a_full_mailbox_sends_nothing_but_receives(world):
    account = await world.accounts.find(AYSE)
    await world.store.write(lambda tx: tx.accounts.add_usage(account.account_id, account.quota_bytes))
    assert refused(await world.send(await signed(compose(), ayse()))) is RefusalCode.OVER_QUOTA
    back = await signed(compose(sender=MEHMET, to=(AYSE,), message_id="<2@test>"), mehmet())
    assert isinstance(await world.send(back, sender=MEHMET, to=(AYSE,)), Accepted)
    await world.work()
    assert await world.count(AYSE, FolderRole.INBOX) == 1


async def test_a_blocked_account_signs_in_to_read_but_does_not_send(world):
    await world.accounts.block(AYSE)
    assert refused(await world.send(await signed(compose(), ayse()))) is RefusalCode.ACCOUNT_BLOCKED


async def test_delivery_goes_on_after_the_tsa_returns(world):
    await world.send(await signed(compose(), ayse()))
    world.tsa.down = True
    await world.worker.round()
    assert await world.kinds() == [K.SUBMISSION_ACCEPTANCE]
    assert await world.count(MEHMET, FolderRole.INBOX) == 0
    world.tsa.down = False
    world.clock.at += timedelta(minutes=1)
    await world.work()
    assert K.DELIVERY in await world.kinds()
    assert await world.count(AYSE, FolderRole.EVIDENCE) == 2


async def test_recipients_are_compared_after_folding_turkish_letters(world):
    written = f"MEHMET.DEMİR@{DOMAIN}"
    message = await signed(compose().replace(MEHMET.encode(), b"Mehmet.Demir@HS91.kep.tr"), ayse())
    assert isinstance(await world.send(message, to=(written,)), Accepted)


def opaque(header: bytes, entity: bytes) -> bytes:
    """Return a message with this header around an opaque signature of the entity."""
    signed_body = opaque_message(ayse(), entity=entity)
    body = signed_body[signed_body.index(b"Content-Type: application/pkcs7-mime") :]
    fields = header.partition(b"Content-Type")[0].replace(b"MIME-Version: 1.0\r\n", b"")
    return fields + b"MIME-Version: 1.0\r\n" + body


async def test_an_opaque_signature_over_another_subject_is_refused(world):
    answer = await world.send(opaque(compose(), entity=compose(subject="başka bir konu")))
    assert refused(answer) is RefusalCode.HEADERS_DIFFER


async def test_an_opaque_signature_over_the_same_header_is_accepted(world):
    answer = await world.send(opaque(compose(), entity=compose()))
    assert isinstance(answer, Accepted), answer


async def test_evidence_names_recipients_by_their_accounts_never_by_what_the_sender_wrote(world):
    message = (await signed(compose(), ayse())).replace(
        b"To: " + MEHMET.encode(), b'To: "Sahte Ad" <' + MEHMET.encode() + b">"
    )
    assert isinstance(await world.send(message), Accepted)
    await world.work()
    assert {p.name for record in await world.evidence() for p in record.recipients} == {"Mehmet Demir"}


async def test_a_revoked_app_password_ends_the_sessions_that_stand_on_it(world):
    await world.send(await signed(compose(), ayse()))
    await world.work()
    delivery = (await deliveries(world))[0]
    sender, reader = await world.person(AYSE), await world.person(MEHMET)
    for person in (sender, reader):
        await world.store.write(
            lambda tx, p=person: tx.accounts.revoke_password(p.account_id, p.password_id, world.clock.now())
        )
    answer = await world.send(await signed(compose(message_id="<2@x>"), ayse()), person=sender)
    assert refused(answer) is RefusalCode.NO_RIGHT_TO_SEND
    assert answer.evidence_id is None
    assert await world.reader.expose(reader, [delivery.delivery_id]) == frozenset()


async def test_an_account_opened_between_acceptance_and_delivery_can_read_what_it_got(world):
    late = f"gec.gelen@{DOMAIN}"
    await world.send(await signed(compose(to=(late,)), ayse()), to=(late,))
    opening = Opening(
        late, AccountKind.REAL_PERSON, ServiceType.SEND_AND_RECEIVE, "Geç Gelen", "Geç Gelen", "10000000382"
    )
    await world.accounts.open(opening)
    await world.accounts.add_password(late, password_of(late), label="test")
    await world.work()
    (delivery,) = await deliveries(world)
    shown = await world.reader.expose(await world.person(late), [delivery.delivery_id])
    assert shown == {delivery.delivery_id}


async def deliveries(world):
    return await world.store.read(
        lambda tx: [d for m in tx.messages.all() for d in tx.deliveries.of_message(m.message_id)]
    )


def refused(answer) -> RefusalCode:
    assert isinstance(answer, Refused), answer
    return answer.refusal.code


async def test_content_deleted_by_everybody_loses_its_key_while_evidence_stays(world):
    await world.send(await signed(compose(), ayse()))
    await world.work()
    (message,) = await world.store.read(lambda tx: list(tx.messages.all()))
    for address, role in ((MEHMET, FolderRole.INBOX), (AYSE, FolderRole.SENT)):
        assert await world.store.read(lambda tx: tx.blobs.get(message.digest_sha256)) is not None
        await world.store.write(lambda tx, a=address, r=role: empty(tx, a, r))
    assert await world.worker.round() == 0
    world.clock.at += timedelta(minutes=1)
    await world.worker.round()
    gone = await world.store.read(
        lambda tx: (tx.blobs.get(message.digest_sha256), tx.blobs.get(message.dispatch))
    )
    assert gone == (None, None)
    assert await world.kinds() == [K.SUBMISSION_ACCEPTANCE, K.DELIVERY]


def empty(tx, address, role):
    folder = tx.mailboxes.by_role(tx.accounts.by_address(address).account_id, role).folder_id
    tx.mailboxes.remove(folder, [item.uid for item in tx.mailboxes.summaries(folder)])


async def test_a_receipt_that_two_workers_make_is_filed_once(world):
    sent = await world.send(await signed(compose(), ayse()))
    (ten,) = await world.store.read(lambda tx: tx.evidence.of_message(sent.message_id))
    assert ten.receipt_due is not None
    await world.work()  # delivery files it with its own
    await world.receipts.file(ten)  # by one who had claimed it before
    assert await world.count(AYSE, FolderRole.EVIDENCE) == 2


async def test_a_receipt_filed_while_another_try_at_it_failed_is_not_due_again(world):
    await world.send(await signed(compose(), ayse()))
    world.clock.at += timedelta(minutes=1)
    now = world.clock.now()
    lane = next(one for one in world.worker._lanes() if one.name == "receipt")
    (claimed,) = await world.store.write(lambda tx: lane.claim(tx, now, 9, now + lane.lease))
    await world.work()  # delivery files it with its own
    await world.store.write(lambda tx: lane.postpone(tx, claimed, now))  # that try found no time stamp
    await world.work()
    assert await world.count(AYSE, FolderRole.EVIDENCE) == 2
