"""The relay's client where peers, networks and our own content fail: cuts, drips, floods, leaks."""

import asyncio
import tracemalloc
from dataclasses import dataclass, replace

import psutil
import pytest

from kephs.domain.relay import Handed, Letter, NotHanded, RelayTrouble
from kephs.ports import BlobMissingError
from smtp_gateway.relay_client import PIECE, SMALL, SmtpCourier
from smtp_gateway.relay_content import LetterError
from tests.support.couriers import (
    BIG,
    CONTENT,
    HASTY,
    LETTER,
    OPENING,
    PATIENT,
    CountingOffload,
    courier,
    letter,
    outcome,
    trouble,
)
from tests.support.edge import until
from tests.support.smtp_peer import (
    OFFERS,
    ServerCertificate,
    Trick,
    make_certificate,
    registered,
    scripted_peer,
)


@pytest.fixture(scope="module")
def pinned(tmp_path_factory) -> ServerCertificate:
    return make_certificate(tmp_path_factory.mktemp("tls") / "pinned.pem")


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> ServerCertificate:
    return make_certificate(tmp_path_factory.mktemp("tls") / "other.pem")


# --- cuts, silence, garbage at every verb ------------------------------------------------------------------


@pytest.mark.parametrize("stage", [*OPENING, *LETTER])
async def test_a_cut_is_a_lost_connection_at_every_verb(pinned, stage):
    async with scripted_peer(
        pinned, answers={stage: Trick.CUT, "ehlo-tls": _offers(stage, Trick.CUT)}
    ) as script:
        found = await outcome(script)
        assert found == NotHanded(RelayTrouble.CONNECTION_LOST, stage)
        assert script.connections == 1


@pytest.mark.parametrize("trick", [Trick.SILENCE, Trick.DRIP])
@pytest.mark.parametrize("stage", [*OPENING, *LETTER])
async def test_silence_and_dripping_end_at_every_verb_after_the_time_for_one_reply(pinned, stage, trick):
    answers = {stage: trick, "ehlo-tls": _offers(stage, trick)}
    async with scripted_peer(pinned, answers=answers) as script:
        began = asyncio.get_running_loop().time()
        assert await outcome(script, HASTY) in {
            NotHanded(RelayTrouble.SILENT, stage),
            NotHanded(RelayTrouble.PROTOCOL, f"{stage} line too long"),
        }
        assert asyncio.get_running_loop().time() - began < 3
        await until(lambda: script.open == 0)


@pytest.mark.parametrize("stage", [*OPENING, *LETTER])
@pytest.mark.parametrize(
    "said", [b"hello\r\n", b"2" * 100_000, b"250-x\r\n" * 10_000], ids=["word", "line", "lines"]
)
async def test_garbage_and_floods_end_the_connection_at_every_verb(pinned, stage, said):
    async with scripted_peer(pinned, answers={stage: said, "ehlo-tls": _offers(stage, said)}) as script:
        assert await trouble(script) is RelayTrouble.PROTOCOL
        await until(lambda: script.open == 0)


def _offers(stage: str, trick):
    """Answer EHLO inside TLS without PIPELINING, so that each verb has its turn; or play the trick there."""
    return trick if stage == "ehlo-tls" else b"250 plain\r\n"


@pytest.mark.parametrize("stage", LETTER)
@pytest.mark.parametrize(
    ("said", "expected"),
    [(b"451 4.3.0 x\r\n", RelayTrouble.REFUSED_FOR_NOW), (b"550 5.7.1 x\r\n", RelayTrouble.REFUSED)],
    ids=["4", "5"],
)
@pytest.mark.parametrize("offers", [OFFERS, b"250 plain\r\n"], ids=["pipelining", "one-by-one"])
async def test_refusals_at_every_verb_of_a_letter(pinned, stage, said, expected, offers):
    async with scripted_peer(pinned, answers={stage: said, "ehlo-tls": offers}) as script:
        assert await trouble(script) is expected
        assert script.verbs.count(b"RSET") == (stage != "final")


async def test_rset_that_is_not_answered_does_not_hold_up_the_refusal(pinned):
    async with scripted_peer(pinned, answers={"rcpt": b"550 5.1.1 x\r\n", "rset": Trick.SILENCE}) as script:
        assert await trouble(script, replace(PATIENT, farewell_timeout=0.1)) is RelayTrouble.REFUSED


async def test_many_slow_replies_cannot_stretch_the_envelope_for_ever(pinned):
    settings = replace(PATIENT, envelope_timeout=0.3)
    async with scripted_peer(
        pinned, turns={"rcpt": [b"250 ok\r\n"] * 50}, answers={"rcpt": Trick.SILENCE}
    ) as script:
        found = await outcome(script, settings, letter(CONTENT, *(f"r{n}@hs92.kep.tr" for n in range(60))))
        assert found == NotHanded(RelayTrouble.SILENT, "rcpt")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "x" * 70 + ".test", "nowhere.invalid"], ids=["closed", "long", "unknown"]
)
async def test_nobody_there_is_no_connection(pinned, host):
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with courier() as made:
        found = await made.hand_over(registered(port, pinned.pin, host=host), letter())
    assert found.trouble is RelayTrouble.NO_CONNECTION


# --- content --------------------------------------------------------------------------------------------------


async def test_a_peer_that_stops_reading_is_silent(pinned):
    async with scripted_peer(pinned, stops_reading_at=100_000) as script:
        found = await outcome(script, HASTY, letter(BIG * 400_000))
        assert found == NotHanded(RelayTrouble.SILENT, "content")


async def test_a_peer_that_stops_reading_and_drips_does_not_make_us_buffer_the_content(pinned):
    answers = {"final": Trick.DRIP}
    async with scripted_peer(pinned, stops_reading_at=100_000, drips_instead=True, answers=answers) as script:
        offload = CountingOffload()
        made = SmtpCourier(HASTY, hostname="us.test", offload=offload)
        found = await made.hand_over(script.peer, letter(BIG * 400_000))
        await made.close()
        assert found.trouble in {RelayTrouble.SILENT, RelayTrouble.PROTOCOL}
        assert offload.calls < 50  # of 111 pieces: what the sockets hold


async def test_a_cut_inside_the_content_is_a_lost_connection_and_no_end_of_data_was_sent(pinned):
    async with scripted_peer(pinned, stops_reading_at=100_000) as script, courier() as made:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(made.hand_over(script.peer, letter(BIG * 400_000)))
            await script.reached.wait()
            script.hang_up()
        assert task.result() == NotHanded(RelayTrouble.CONNECTION_LOST, "content")
        assert script.contents == []


async def test_a_refusal_in_the_middle_of_the_content_is_heard_at_once(pinned):
    refusal = (200_000, b"552 5.3.4 too much\r\n")
    async with scripted_peer(pinned, refuses_content_at=refusal) as script:
        found = await outcome(script, of=letter(BIG * 400_000))
        assert found == NotHanded(RelayTrouble.REFUSED, "content 552 5.3.4 too much")


@pytest.mark.parametrize(
    ("content", "flags"),
    [
        (b"", {}),
        (b"a", {}),
        (b"a: b\r\n\r\nx", {}),
        (b"a: b\r\n\r\nx\n", {}),
        (b"a\n.\nb\r\n", {}),
        ("ş\r\n".encode(), {}),
    ],
    ids=["empty", "word", "open", "lf", "smuggled", "8bit"],
)
async def test_content_that_must_not_be_sent_is_our_own_error_and_the_peer_does_not_have_it(
    pinned, content, flags
):
    async with scripted_peer(pinned) as script, courier() as made:
        with pytest.raises(LetterError):
            await made.hand_over(script.peer, letter(content, **flags))
        await until(lambda: script.open == 0)
        assert script.contents == []
        assert isinstance(await made.hand_over(script.peer, letter()), Handed)


@dataclass
class Failing:
    size: int
    good: int
    error: Exception | None

    def read(self, start: int, length: int) -> bytes:
        if start >= self.size - 2:
            return b"\r\n"
        if start >= self.good:
            if self.error is not None:
                raise self.error
            return b""
        return b"x" * length


@pytest.mark.parametrize(
    ("error", "raised"),
    [(BlobMissingError("gone"), BlobMissingError), (None, LetterError)],
    ids=["gone", "short"],
)
async def test_content_that_cannot_be_read_to_its_end_is_never_ended_with_a_dot(pinned, error, raised):
    content = Failing(4 * PIECE, PIECE, error)
    async with scripted_peer(pinned) as script, courier() as made:
        with pytest.raises(raised):
            await made.hand_over(script.peer, Letter("", ("b@hs92.kep.tr",), content))
        await until(lambda: script.open == 0)
        assert script.contents == []


async def test_only_large_content_is_read_away_from_the_loop(pinned):
    async with scripted_peer(pinned) as script:
        offload = CountingOffload()
        made = SmtpCourier(PATIENT, hostname="us.test", offload=offload)
        await made.hand_over(script.peer, letter())
        assert offload.calls == 0
        await made.hand_over(script.peer, letter(BIG * (SMALL // len(BIG) + 1)))
        assert offload.calls == 2
        await made.close()


@dataclass
class Repeated:
    """Content that is nowhere in memory."""

    size: int

    def read(self, start: int, length: int) -> bytes:
        line = b"." + b"x" * 61 + b"\r\n"
        first = start // 64
        return (line * (length // 64 + 2))[start - first * 64 :][:length]


async def test_25_mb_go_over_with_flat_memory(pinned):
    size = 25 * 1024 * 1024
    async with scripted_peer(pinned, keeps_content=False) as script, courier() as made:
        await made.hand_over(script.peer, letter())
        script.octets = 0
        tracemalloc.start()
        try:
            found = await made.hand_over(script.peer, Letter("", ("b@hs92.kep.tr",), Repeated(size)))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert isinstance(found, Handed)
        assert script.octets == size + size // 64 + 3
        assert peak < 16 * PIECE  # both ends run here


# --- cancelling, leaks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["greeting", "tls", "mail", "final", "content"])
async def test_cancelling_leaves_no_socket_behind(pinned, stage):
    script_of: dict = (
        {"stops_reading_at": 100_000} if stage == "content" else {"answers": {stage: Trick.SILENCE}}
    )
    before = len(psutil.Process().net_connections())
    async with scripted_peer(pinned, **script_of) as script, courier() as made:
        task = asyncio.ensure_future(made.hand_over(script.peer, letter(BIG * 400_000)))
        await script.reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if stage != "content":  # a peer that no longer reads does not see it
            await until(lambda: script.open == 0)
    await until(lambda: len(psutil.Process().net_connections()) <= before)


async def test_no_outcome_leaks_a_socket(pinned, other):
    before = len(psutil.Process().net_connections())
    for answers in (
        {},
        {"tls": b"x" * 99},
        {"greeting": b"554 no\r\n"},
        {"mail": Trick.CUT},
        {"final": b"junk\r\n"},
    ):
        async with scripted_peer(pinned, answers=answers) as script:
            await outcome(script)
            async with courier() as made:
                await made.hand_over(registered(script.port, other.pin), letter())
    await until(lambda: len(psutil.Process().net_connections()) <= before)


async def test_closing_does_not_wait_for_a_peer_that_ignores_quit(pinned):
    async with scripted_peer(pinned, answers={"quit": Trick.SILENCE}) as script:
        made = SmtpCourier(
            replace(PATIENT, farewell_timeout=0.1), hostname="us.test", offload=CountingOffload()
        )
        await made.hand_over(script.peer, letter())
        async with asyncio.timeout(3):
            await made.close()
            await made.close()
        await until(lambda: script.open == 0)


async def test_after_closing_connections_are_not_kept(pinned):
    async with scripted_peer(pinned) as script:
        made = SmtpCourier(PATIENT, hostname="us.test", offload=CountingOffload())
        await made.close()
        assert isinstance(await made.hand_over(script.peer, letter()), Handed)
        await until(lambda: script.verbs[-1] == b"QUIT" and script.open == 0)
