"""Client and signer over a pair of sockets: what is sealed, what is refused, and what happens when one is lost."""

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256

import pytest

from evidence.adapters.soft_signer import SoftSigner
from evidence.model.records import EvidenceKind, Party, Profile, SealedEvidence
from evidence.ports import SignerRefusedError, SignerUnavailableError, Stamping, TimestampUnavailableError
from evidence.seal.sealing import Sealer
from evidence.stamps.timestamps import build_request, parse_response
from kephs.signer import server, wire
from kephs.signer.client import RemoteSealer
from kephs.signer.server import SignerRules, SignerServer
from kephs.signer.wire import Hello, pack_answer
from tests.support.evidence_samples import AT, HS91, record
from tests.support.pki import shared_pki

NOW = AT + timedelta(minutes=7)
DIGEST = sha256(b"entity").digest()


class TestAuthority:
    """Tokens without a network."""

    __test__ = False

    async def stamp(self, digest):
        return parse_response(shared_pki().timestamp_reply(build_request(digest, 2**65 + 1), NOW))


def real_sealer() -> Sealer:
    issued = shared_pki().transactions["hs91.kep.tr"]
    return Sealer(SoftSigner(issued.key, issued.certificate, issued.chain), TestAuthority())


@dataclass
class Held:
    """A `Sealing` that answers when it is told to, and remembers what it was asked."""

    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    asked: list[object] = field(default_factory=list)
    error: Exception | None = None
    xml: bytes = b"<sealed/>"

    def hold(self, evidence_id: str) -> asyncio.Event:
        return self.gates.setdefault(evidence_id, asyncio.Event())

    async def seal_many(self, records, *, profile=Profile.KEP, stamping=None):
        self.asked.append((len(records), profile, stamping))
        for one in records:
            if one.evidence_id in self.gates:
                await self.gates[one.evidence_id].wait()
        if self.error is not None:
            raise self.error
        return [
            SealedEvidence(one, self.xml + one.evidence_id.encode(), b"ers" if n % 2 else None)
            for n, one in enumerate(records)
        ]

    async def records(self, leaves):
        if self.error is not None:
            raise self.error
        return [b"record of " + leaf for leaf in leaves]

    async def sign_entity(self, digest, at):
        (signature,) = await self.sign_entities((digest,), at)
        return signature

    async def sign_entities(self, digests, at):
        if self.error is not None:
            raise self.error
        return [b"p7s of " + digest + at.isoformat().encode() for digest in digests]


@asynccontextmanager
async def joined(sealing, *, rules=None, **options):
    """A client and a server that answers it; the server has ended when the block does."""
    ours, theirs = socket.socketpair()
    sealer, stopping = RemoteSealer(**options), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        serving = SignerServer(sealing, rules or SignerRules(HS91), lambda: NOW).serve(theirs, stopping)
        served = group.create_task(serving)
        link = await sealer.attach(ours)
        try:
            yield sealer, link, stopping
        finally:
            sealer.close()
            await served


async def until(look):
    async with asyncio.timeout(20):
        while not look():
            await asyncio.sleep(0)


def ids(count):
    return [record(evidence_id=f"{n}@hs91.kep.tr") for n in range(count)]


async def test_evidence_and_signatures_are_those_of_the_signers_sealer():
    made = [record(kind) for kind in (EvidenceKind.SUBMISSION_ACCEPTANCE, EvidenceKind.DELIVERY)]
    async with joined(real_sealer()) as (sealer, _, _):
        sealed = await sealer.seal_many(made)
        signature = await sealer.sign_entity(DIGEST, NOW)
    assert [one.record for one in sealed] == made
    assert all(one.ers is None and b"SignatureTimeStamp" in one.xml for one in sealed)
    assert sha256(b"entity").digest() in signature


async def test_profile_stamping_and_evidence_records_cross():
    held = Held()
    async with joined(held) as (sealer, _, _):
        sealed = await sealer.seal_many(ids(3), profile=Profile.REM_BASELINE, stamping=Stamping.OWN)
        assert [one.ers for one in sealed] == [None, b"ers", None]
        assert [one.xml for one in sealed] == [b"<sealed/>%d@hs91.kep.tr" % n for n in range(3)]
        assert await sealer.records([DIGEST] * 2500) == [b"record of " + DIGEST] * 2500
        assert await sealer.sign_entity(DIGEST, NOW) == b"p7s of " + DIGEST + NOW.isoformat().encode()
        assert await sealer.seal_many([]) == []
        assert await sealer.records([]) == []
    assert held.asked == [(3, Profile.REM_BASELINE, Stamping.OWN)]


async def test_answers_come_when_they_are_ready_whatever_the_order():
    held = Held()
    first, second = ids(2)
    gate, order = held.hold(first.evidence_id), []

    async def ask(sealer, one):
        order.append((await sealer.seal_many([one]))[0].record.evidence_id)

    async with joined(held) as (sealer, _, _), asyncio.TaskGroup() as group:
        waiting = group.create_task(ask(sealer, first))
        await until(lambda: held.asked)
        await ask(sealer, second)
        assert not waiting.done()
        gate.set()
        await waiting
    assert order == [second.evidence_id, first.evidence_id]


async def test_many_records_cross_in_several_requests_and_come_back_in_order():
    held = Held()
    many = tuple(Party(f"{n:064}@hs91.kep.tr") for n in range(500))
    made = [replace(one, recipients=many) for one in ids(300)]
    async with joined(held) as (sealer, _, _):
        sealed = await sealer.seal_many(made)
    assert [one.record for one in sealed] == made
    assert [one.xml for one in sealed] == [b"<sealed/>%d@hs91.kep.tr" % n for n in range(300)]
    assert len(held.asked) > 3
    assert max(count for count, _, _ in held.asked) <= wire.RECORDS_MAX


async def test_more_requests_than_the_limit_wait_their_turn(monkeypatch):
    held = Held()
    gate = held.hold("0@hs91.kep.tr")
    monkeypatch.setattr(server, "REQUESTS_MAX", 3)
    async with joined(held) as (sealer, link, _), asyncio.TaskGroup() as group:
        tasks = [group.create_task(sealer.seal_many([ids(1)[0]])) for _ in range(2000)]
        await until(lambda: held.asked and not link.writable.is_set())
        assert sum(count for count, _, _ in held.asked) < 2000
        gate.set()
        await asyncio.wait(tasks)
    assert sum(count for count, _, _ in held.asked) == 2000
    assert max(count for count, _, _ in held.asked) <= server.TOGETHER_MAX


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (SignerUnavailableError("token out"), SignerUnavailableError),
        (TimestampUnavailableError("both silent"), TimestampUnavailableError),
        (SignerRefusedError("not ours"), SignerRefusedError),
        (RuntimeError("a defect"), SignerRefusedError),
    ],
    ids=lambda value: getattr(value, "__name__", None) or type(value).__name__,
)
async def test_what_the_sealer_raises_the_caller_gets(raised, expected):
    async with joined(Held(error=raised)) as (sealer, link, _):
        for asking in (sealer.seal_many(ids(1)), sealer.sign_entity(DIGEST, NOW), sealer.records([DIGEST])):
            with pytest.raises(expected) as caught:
                await asking
        assert not link.lost.is_set()
    assert "defect" not in str(caught.value)


async def test_calls_that_come_together_are_sealed_together_and_each_has_its_own():
    held = Held()
    async with joined(held) as (sealer, _, _), asyncio.TaskGroup() as group:
        alike = [group.create_task(sealer.seal_many(ids(n + 1)[n:])) for n in range(100)]
        other = group.create_task(sealer.seal_many(ids(3), stamping=Stamping.OWN))
    for n, call in enumerate(alike):
        assert [one.xml for one in call.result()] == [b"<sealed/>%d@hs91.kep.tr" % n]
    assert len(other.result()) == 3
    assert sorted(held.asked, key=str) == sorted(
        [(64, Profile.KEP, None), (36, Profile.KEP, None), (3, Profile.KEP, Stamping.OWN)], key=str
    )


async def test_one_that_is_refused_spoils_none_of_those_it_came_with():
    async with joined(Held()) as (sealer, _, _), asyncio.TaskGroup() as group:
        bad = record(event_time=NOW - timedelta(days=1))
        calls = [group.create_task(_outcome(sealer.seal_many([one]))) for one in (*ids(5), bad, *ids(5))]
    outcomes = [call.result() for call in calls]
    assert type(outcomes.pop(5)) is SignerRefusedError
    assert all(len(one) == 1 for one in outcomes)


async def test_one_that_the_key_cannot_seal_spoils_none_of_those_it_came_with():
    class Fussy(Held):
        async def seal_many(self, records, **ways):
            if any(one.evidence_id.startswith("bad") for one in records):
                raise SignerUnavailableError("the certificate does not count")
            return await super().seal_many(records, **ways)

    async with joined(Fussy()) as (sealer, _, _), asyncio.TaskGroup() as group:
        made = [*ids(3), record(evidence_id="bad@hs91.kep.tr")]
        calls = [group.create_task(_outcome(sealer.seal_many([one]))) for one in made]
    outcomes = [call.result() for call in calls]
    assert type(outcomes.pop()) is SignerUnavailableError
    assert all(len(one) == 1 for one in outcomes)


async def test_when_nobody_stamps_all_that_came_together_hear_so_after_one_try():
    held = Held(error=TimestampUnavailableError("both silent"))
    async with joined(held) as (sealer, _, _), asyncio.TaskGroup() as group:
        calls = [group.create_task(_outcome(sealer.seal_many([one]))) for one in ids(20)]
    assert {type(call.result()) for call in calls} == {TimestampUnavailableError}
    assert len(held.asked) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": replace(HS91, name="Another")},
        {"issuer": replace(HS91, address="kep-hizmet@hs92.kep.tr")},
        {"event_time": NOW + timedelta(minutes=5, seconds=1)},
        {"event_time": NOW - timedelta(minutes=5, seconds=1)},
        {"submission_time": NOW + timedelta(minutes=6)},
        {"message": replace(record().message, digest_sha256=b"short")},
        {"refers_to": 0},
        {"refers_to": 3},
    ],
    ids=["name", "address", "future", "past", "submitted later", "digest", "zeroth", "third of two"],
)
async def test_the_signer_refuses_what_is_not_ours_and_not_now(changes):
    held = Held()
    async with joined(held) as (sealer, link, _):
        with pytest.raises(SignerRefusedError):
            await sealer.seal_many([record(), record(**changes)])
        assert not link.lost.is_set()
        await sealer.seal_many([record()])
    assert held.asked == [(1, Profile.KEP, None)]


async def test_a_claimed_signing_time_far_away_is_refused():
    async with joined(Held()) as (sealer, _, _):
        for minutes in (-6, 6):
            with pytest.raises(SignerRefusedError):
                await sealer.sign_entity(DIGEST, NOW + timedelta(minutes=minutes))


async def test_many_entities_are_signed_in_their_order_however_many_requests_that_takes():
    digests = [sha256(bytes([n])).digest() for n in range(200)]
    async with joined(Held()) as (sealer, _, _):
        signed = await sealer.sign_entities(digests, NOW)
        assert signed == [await sealer.sign_entity(digest, NOW) for digest in digests]
        assert await sealer.sign_entities([], NOW) == []


async def test_digests_of_another_length_are_refused_before_they_are_sent():
    async with joined(Held()) as (sealer, _, _):
        for digest in (b"", b"x" * 31, b"x" * 33, b"x" * 64):
            with pytest.raises(SignerRefusedError):
                await sealer.sign_entity(digest, NOW)
            with pytest.raises(SignerRefusedError):
                await sealer.records([DIGEST, digest])


async def test_a_record_that_cannot_cross_is_refused_and_nothing_else_suffers():
    async with joined(Held()) as (sealer, _, _):
        with pytest.raises(SignerRefusedError):
            await sealer.seal_many([record(sender=Party("x" * (2 << 20)))])
        with pytest.raises(SignerRefusedError):
            await sealer.sign_entity(DIGEST, NOW.replace(tzinfo=None))
        assert len(await sealer.seal_many(ids(1))) == 1


async def test_an_answer_too_large_for_a_frame_is_a_refusal():
    async with joined(Held(xml=b"x" * wire.ANSWER_MAX)) as (sealer, link, _):
        with pytest.raises(SignerRefusedError):
            await sealer.seal_many(ids(1))
        assert not link.lost.is_set()


async def test_a_cancelled_call_loses_nobody_else():
    held = Held()
    first, second = ids(2)
    gates = [held.hold(one.evidence_id) for one in (first, second)]
    async with joined(held) as (sealer, link, _), asyncio.TaskGroup() as group:
        one = group.create_task(sealer.seal_many([first]))
        await until(lambda: len(held.asked) == 1)
        other = group.create_task(sealer.seal_many([second]))
        await until(lambda: len(held.asked) == 2)
        one.cancel()
        for gate in gates:
            gate.set()
        assert (await other)[0].record == second
        assert len(await sealer.seal_many([first])) == 1  # its late answer came meanwhile and went nowhere
        assert not link.lost.is_set()


async def test_an_end_of_the_signer_ends_all_calls_and_the_next_signer_serves():
    held = Held()
    held.hold("0@hs91.kep.tr")
    sealer = RemoteSealer(wait_seconds=5)
    ours, theirs = socket.socketpair()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(
            SignerServer(held, SignerRules(HS91), lambda: NOW).serve(theirs, asyncio.Event())
        )
        link = await sealer.attach(ours)
        calls = [group.create_task(_outcome(sealer.seal_many([one]))) for one in ids(1) * 3]
        calls.append(group.create_task(_outcome(sealer.seal_many([*ids(1), *ids(300)]))))
        await until(lambda: held.asked)
        link.abort("killed")
        assert {type(await call) for call in calls} == {SignerUnavailableError}
        await first
        later = group.create_task(_outcome(sealer.sign_entity(DIGEST, NOW)))
        await asyncio.sleep(0)
        assert not later.done()
        ours, theirs = socket.socketpair()
        second = group.create_task(
            SignerServer(held, SignerRules(HS91), lambda: NOW).serve(theirs, asyncio.Event())
        )
        await sealer.attach(ours)
        assert (await later).startswith(b"p7s")
        sealer.close()
        await second


async def _outcome(asking):
    try:
        return await asking
    except (SignerUnavailableError, TimestampUnavailableError, SignerRefusedError) as error:
        return error


async def test_without_a_signer_a_call_waits_a_little_and_fails():
    sealer = RemoteSealer(wait_seconds=0.01)
    with pytest.raises(SignerUnavailableError, match="no signer"):
        await sealer.seal_many(ids(1))
    sealer.close()
    with pytest.raises(SignerUnavailableError, match="closed"):
        await sealer.seal_many(ids(1))


async def test_a_signer_that_says_nothing_is_given_up():
    held = Held()
    held.hold("0@hs91.kep.tr")
    async with joined(held, answer_seconds=0.02) as (sealer, link, _):
        with pytest.raises(SignerUnavailableError, match="no answer"):
            await sealer.seal_many(ids(1))
        await link.lost.wait()


async def test_one_late_answer_among_others_gives_nobody_up():
    held = Held()
    held.hold("0@hs91.kep.tr")
    async with joined(held, answer_seconds=0.2) as (sealer, link, _), asyncio.TaskGroup() as group:
        late = group.create_task(_outcome(sealer.seal_many(ids(1))))
        await asyncio.sleep(0)
        await sealer.sign_entity(DIGEST, NOW)
        assert isinstance(await late, SignerUnavailableError)
        assert not link.lost.is_set()


async def test_draining_answers_what_was_asked_and_ends():
    held = Held()
    gate = held.hold("0@hs91.kep.tr")
    async with joined(held) as (sealer, link, stopping), asyncio.TaskGroup() as group:
        call = group.create_task(sealer.seal_many(ids(1)))
        await until(lambda: held.asked)
        stopping.set()
        await asyncio.sleep(0)
        gate.set()
        assert len(await call) == 1
        await link.lost.wait()


async def test_a_signer_of_another_version_is_not_used():
    ours, theirs = socket.socketpair()
    theirs.sendall(pack_answer(Hello("0" * 32)))
    with pytest.raises(SignerUnavailableError, match="version"):
        await RemoteSealer().attach(ours)
    theirs.close()


async def test_a_signer_that_ends_before_it_is_ready_is_not_used():
    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(SignerUnavailableError, match="not get ready"):
        await RemoteSealer().attach(ours)
