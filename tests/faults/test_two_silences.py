"""Peers that misbehave over real sockets: each is given up with its reason, and holds up nobody else."""

import random
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from evidence.forms.rem_xml import read as read_record
from evidence.model.records import ReasonCode
from kephs.cli.beside import open_beside
from kephs.register_seal import register_entry
from tests.faults.letters import Kind, Letter
from tests.faults.pair import LONG, PEER, Pair
from tests.support.crash import DOMAIN, Provider, now, quiet_port, until
from tests.support.smtp_peer import ScriptedPeer, ServerCertificate, Trick, make_certificate, scripted_peer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
SHORT = 1.0  # seconds
HOUR = 3_600_000_000  # microseconds
PER_PEER = 5  # more than there are connections to one peer
_DOWN, _WHO, _BROKEN, _NO_INFO = (
    ReasonCode.R_REMMD_UNREACHABLE, ReasonCode.R_REMMD_NOT_IDENTIFIED, ReasonCode.R_REMMD_MALFUNCTION,
    ReasonCode.S_REMMD_RECEIVED_NO_DELIVERY_INFO,
)  # fmt: skip
REFUSED = b"550 5.7.1 no\r\n"
# What each does: stage and answer. The certificate of the one with nothing here is not the registered one.
PEERS = {
    "hs81.kep.tr": ({"greeting": Trick.SILENCE}, _DOWN),
    "hs82.kep.tr": ({"greeting": Trick.DRIP}, _DOWN),
    "hs83.kep.tr": ({"final": Trick.SILENCE}, _DOWN),
    "hs84.kep.tr": ({}, _WHO),
    "hs85.kep.tr": ({"tls": Trick.SILENCE}, _DOWN),
    "hs86.kep.tr": ({"final": b"451 4.3.0 later\r\n"}, _BROKEN),
    "hs87.kep.tr": ({"ehlo": b"250 peer.test\r\n"}, _WHO),
    "hs88.kep.tr": ({"rcpt": b"no SMTP at all\r\n"}, _BROKEN),
}
GONE, THANKLESS, RUDE = "hs89.kep.tr", "hs98.kep.tr", "hs99.kep.tr"
REASONS = {domain: reason for domain, (_, reason) in PEERS.items()} | {
    GONE: _DOWN, THANKLESS: _NO_INFO, RUDE: _BROKEN,
}  # fmt: skip


@pytest.fixture(scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("faults") / "silences")
    yield made
    made.close()


@pytest.fixture
def pair(_made: Pair) -> Pair:
    """Two providers with the usual timers."""
    _made.here.configure(
        "relay",
        no_answer_seconds=LONG,
        no_delivery_info_seconds=LONG,
        give_up_seconds=LONG,
        reply_seconds=60.0,
    )
    return _made


def update(provider: Provider, statement: str, *parameters: object) -> None:
    """Change the database of a provider whose server is dead."""
    with closing(sqlite3.connect(provider.settings.storage.database, timeout=10)) as connection, connection:
        connection.execute(statement, parameters)


def accepted(pair: Pair, letter: Letter) -> str:
    """Return the message id that the sender was told."""
    return pair.told.accepted[letter.user_id][1]


def state(provider: Provider, message_id: str) -> str:
    """Return the state of a message's only recipient."""
    ((found,),) = provider.rows("SELECT state FROM deliveries WHERE message_id = ?", message_id)
    return str(found)


def evidence(provider: Provider, message_id: str) -> list[tuple[int, str | None]]:
    """Return kind and maker of each evidence of a message."""
    return provider.rows(
        "SELECT kind, origin FROM evidence WHERE message_id = ? ORDER BY kind, origin", message_id
    )


async def reasons(provider: Provider, kind: int) -> dict[str, list[ReasonCode]]:
    """Return the reasons in our own evidence of a kind, by message."""
    found = {}
    async with open_beside(provider.settings) as beside:
        rows = await beside.store.read(
            lambda tx: [
                (one.message_id, tx.blobs.get(one.blob))
                for one in tx.evidence.all()
                if one.kind == kind and not one.origin
            ]
        )
        for message_id, blob in rows:
            assert blob is not None
            source = beside.blobs.open(blob)
            found[message_id] = [reason.code for reason in read_record(source.read(0, source.size)).reasons]
    return found


# ------------------------------------------------------------------------------- our own second provider


async def test_a_peer_that_takes_a_message_and_says_no_more_is_given_up_and_its_late_word_stands_beside(
    pair: Pair,
):
    pair.here.configure("relay", no_answer_seconds=SHORT)
    letter = pair.letter(pair.here, Kind.PLAIN, random.Random(1), to=PEER)
    async with pair.wires(), pair.crowds("silent", always=True) as crowds, await pair.here.start() as server:
        crowds[DOMAIN].meet(server)
        async with await pair.there.start(
            roles=("smtp", "inbound", "imap")
        ):  # it takes, and works no further
            crowds[DOMAIN].submit(letter)
            await crowds[DOMAIN].settled()
            message_id = accepted(pair, letter)
            await until(lambda: state(pair.here, message_id) == "unreached", "the deadline")
        assert evidence(pair.here, message_id) == [(10, None), (31, None)]
        assert (await reasons(pair.here, 31))[message_id] == [_NO_INFO]
        await pair.fsck()
        async with await pair.there.start() as late:
            crowds[PEER].meet(late)
            await pair.agree(crowds, [server, late], strict=False)
            assert state(pair.here, message_id) == "unreached"
            assert evidence(pair.here, message_id) == [
                (10, None),
                (20, PEER),
                (31, None),
                (40, PEER),
                (60, PEER),
            ]


async def test_a_peer_that_says_20_and_no_more_is_given_up_with_41_and_its_late_word_stands_beside(
    pair: Pair,
):
    pair.here.configure("relay", no_delivery_info_seconds=SHORT)
    letter = pair.letter(pair.here, Kind.PLAIN, random.Random(2), to=PEER)
    async with pair.wires(), pair.crowds("20 only", always=True) as crowds, await pair.here.start() as server:
        crowds[DOMAIN].meet(server)
        async with await pair.there.start(roles=("smtp", "inbound", "imap")):
            crowds[DOMAIN].submit(letter)
            await crowds[DOMAIN].settled()
            message_id = accepted(pair, letter)
            await until(lambda: evidence(pair.there, message_id), "20")
        later = time.time_ns() // 1000 + HOUR
        update(pair.there, "UPDATE messages SET next_at = ? WHERE message_id = ?", later, message_id)
        async with await pair.there.start() as slow:  # it says 20; delivery is an hour away
            await until(lambda: state(pair.here, message_id) == "failed", "the deadline")
            assert evidence(pair.here, message_id) == [(10, None), (20, PEER), (41, None)]
            assert (await reasons(pair.here, 41))[message_id] == [_NO_INFO]
            await slow.kill()
        await pair.fsck()
        update(pair.there, "UPDATE messages SET next_at = 0 WHERE message_id = ?", message_id)
        async with await pair.there.start() as late:
            crowds[PEER].meet(late)
            await pair.agree(crowds, [server, late], strict=False)
            assert state(pair.here, message_id) == "failed"
            assert evidence(pair.here, message_id) == [
                (10, None),
                (20, PEER),
                (40, PEER),
                (41, None),
                (60, PEER),
            ]


# ----------------------------------------------------------------------------------- strangers on sockets


@pytest.fixture
async def strangers(pair: Pair, tmp_path: Path) -> AsyncIterator[dict[str, ScriptedPeer]]:
    """Run the peers that misbehave, and register them beside the good one."""
    registered = make_certificate(tmp_path / "peer.pem")
    other = make_certificate(tmp_path / "other.pem")
    scripts = {domain: answers for domain, (answers, _) in PEERS.items()}
    scripts |= {THANKLESS: {}, RUDE: {"mail": REFUSED}}
    async with AsyncExitStack() as stack:
        running = {}
        for domain, answers in scripts.items():
            certificate = registered if answers or domain == THANKLESS else other
            running[domain] = await stack.enter_async_context(scripted_peer(certificate, answers=answers))
        ports = {domain: one.port for domain, one in running.items()} | {GONE: quiet_port()}
        pair.publish([_entry(pair, domain, port, registered) for domain, port in ports.items()])
        yield running


def _entry(pair: Pair, domain: str, port: int, certificate: ServerCertificate) -> dict[str, object]:
    tls = x509.load_pem_x509_certificate(certificate.path.read_bytes())
    sealing = pair.here.pki.add_provider(domain, f"TEST {domain}")
    return register_entry(
        domain=domain, name=f"TEST {domain}", service_address=f"hizmet@{domain}", host="127.0.0.1", port=port,
        tls_certificates=[tls.public_bytes(serialization.Encoding.DER)],
        transaction_certificates=[sealing.certificate], max_message_mib=25, since=now(),
    )  # fmt: skip


async def test_a_peer_that_misbehaves_holds_up_nobody_else_and_is_given_up_with_its_reason(
    pair: Pair, strangers: dict[str, ScriptedPeer]
):
    choice = random.Random(5)
    pair.here.configure("relay", reply_seconds=SHORT, final_reply_seconds=SHORT)
    bad = [
        pair.letter(pair.here, Kind.PLAIN, choice, number, to=f"biri@{domain}")
        for number in range(PER_PEER)
        for domain in REASONS
    ]
    good = [pair.letter(pair.here, Kind.PLAIN, choice, number, to=PEER) for number in range(PER_PEER)]
    async with pair.wires(), pair.crowds("strangers", always=True) as crowds:
        here = crowds[DOMAIN]
        async with pair.up(crowds) as (server, _):
            for letter in bad:
                here.submit(letter)
            await here.settled()
            await until(lambda: _tried(pair, bad), "every peer to be tried")
            for letter in good:  # they come behind all the others
                here.submit(letter)
            await here.settled()
            await until(lambda: _states(pair, good) <= {"delivered", "read"}, "those in good order")
            rude = [letter for letter in bad if letter.recipients[0].endswith(RUDE)]
            await until(lambda: _states(pair, rude) == {"unreached"}, "a refusal, which needs no deadline")
            assert _states(pair, [letter for letter in bad if letter not in rude]) == {"pending"}
            await server.kill()
        update(
            pair.here, "UPDATE transfers SET deadline = 0, next_at = 0 WHERE state IN ('queued', 'handed')"
        )
        pair.here.configure("relay", give_up_seconds=SHORT, no_answer_seconds=SHORT)
        more = [pair.letter(pair.here, Kind.PLAIN, choice, to=f"biri@{domain}") for domain in REASONS]
        async with pair.up(crowds) as servers:
            for letter in more:  # their deadlines come by themselves
                here.submit(letter)
            await pair.agree(crowds, servers, strict=False)
        assert _states(pair, [*bad, *more]) == {"unreached"}
        assert _states(pair, good) == {"read"}
    said = await reasons(pair.here, 31)
    found = {
        (letter.recipients[0].partition("@")[2], *said[accepted(pair, letter)]) for letter in (*bad, *more)
    }
    assert found == set(REASONS.items())
    assert strangers[THANKLESS].contents


def _tried(pair: Pair, letters: list[Letter]) -> bool:
    """Say whether there was trouble with every peer, or it has taken something."""
    ids = {accepted(pair, letter) for letter in letters}
    rows = pair.here.rows("SELECT peer, message_id FROM transfers WHERE cause <> '' OR state <> 'queued'")
    return {peer for peer, message_id in rows if message_id in ids} == set(REASONS)


def _states(pair: Pair, letters: list[Letter]) -> set[str]:
    return {state(pair.here, accepted(pair, letter)) for letter in letters}
