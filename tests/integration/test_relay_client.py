"""The relay's client over real sockets and TLS: cuts, pins, drips, floods, kept connections, real servers."""

import asyncio
import logging
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP

from kephs.bench import postfix
from kephs.domain.relay import Handed, NotHanded, RelayTrouble
from tests.support.couriers import (
    BIG,
    CONTENT,
    HASTY,
    PATIENT,
    WIRE,
    courier,
    letter,
    outcome,
    trouble,
)
from tests.support.edge import until
from tests.support.smtp_peer import (
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


# --- the good way -----------------------------------------------------------------------------------


async def test_a_message_arrives_byte_for_byte_behind_tls(pinned):
    async with scripted_peer(pinned) as script:
        found = await outcome(script)
    assert found == Handed("250 2.0.0 queued as 1")
    assert script.contents == [WIRE]
    assert script.verbs == [b"EHLO", b"STARTTLS", b"EHLO", b"MAIL", b"RCPT", b"DATA", b"QUIT"]


async def test_a_peer_that_does_not_pipeline_gets_one_command_at_a_time(pinned):
    async with scripted_peer(pinned, answers={"ehlo-tls": b"250 plain\r\n"}) as script:
        found = await outcome(script, of=letter(CONTENT, "b@hs92.kep.tr", "c@hs92.kep.tr"))
    assert isinstance(found, Handed)
    assert script.heard[3] == b"MAIL FROM:<a@hs91.kep.tr>\r\n"
    assert script.verbs.count(b"RCPT") == 2


async def test_letters_share_a_connection_and_each_connection_carries_only_so_many(pinned):
    async with scripted_peer(pinned) as script:
        async with courier(replace(PATIENT, letters_per_connection=3)) as made:
            for _ in range(7):
                assert isinstance(await made.hand_over(script.peer, letter()), Handed)
            await until(lambda: script.verbs.count(b"QUIT") == 2)
        assert script.connections == 3
    assert script.verbs.count(b"QUIT") == 3


async def test_letters_at_the_same_time_have_connections_of_their_own_and_only_some_are_kept(pinned):
    async with scripted_peer(pinned) as script:
        async with courier(replace(PATIENT, idle_connections=2)) as made:
            async with asyncio.TaskGroup() as group:
                for _ in range(6):
                    group.create_task(made.hand_over(script.peer, letter()))
            assert len(script.contents) == 6
            assert script.connections == 6
            await until(lambda: script.open == 2)
        await until(lambda: script.open == 0)


async def test_an_idle_connection_is_said_goodbye_to(pinned):
    async with scripted_peer(pinned) as script, courier(replace(PATIENT, idle_time=0.05)) as made:
        await made.hand_over(script.peer, letter())
        await until(lambda: script.verbs[-1] == b"QUIT" and script.open == 0)


async def test_a_refused_letter_leaves_the_connection_for_the_next(pinned):
    turns = {"rcpt": [b"550 5.1.1 no\r\n"], "final": [b"554 5.7.1 no\r\n"]}
    async with scripted_peer(pinned, turns=turns) as script, courier() as made:
        found = [await made.hand_over(script.peer, letter()) for _ in range(3)]
        assert [getattr(one, "trouble", "handed") for one in found] == ["refused", "refused", "handed"]
        assert script.connections == 1
        assert script.verbs.count(b"RSET") == 1


# --- dead kept connections ----------------------------------------------------------------------------


async def test_a_kept_connection_that_the_peer_ended_is_not_used(pinned):
    async with scripted_peer(pinned) as script, courier() as made:
        await made.hand_over(script.peer, letter())
        script.hang_up()
        await until(lambda: script.open == 0)
        assert isinstance(await made.hand_over(script.peer, letter()), Handed)
        assert script.connections == 2


async def test_what_comes_unasked_on_a_kept_connection_ends_it(pinned):
    async with scripted_peer(pinned) as script, courier() as made:
        await made.hand_over(script.peer, letter())
        for writer in script._writers:
            writer.write(b"421 4.4.2 idle too long\r\n")
        await until(lambda: script.open == 0)
        assert isinstance(await made.hand_over(script.peer, letter()), Handed)
        assert len(script.contents) == 2


@pytest.mark.parametrize("answer", [Trick.CUT, b"421 4.4.2 timeout\r\n"], ids=["cut", "421"])
async def test_a_kept_connection_that_dies_before_mail_is_answered_is_replaced_silently(pinned, answer):
    async with scripted_peer(pinned, turns={"mail": [b"250 ok\r\n", answer]}) as script, courier() as made:
        assert isinstance(await made.hand_over(script.peer, letter()), Handed)
        assert isinstance(await made.hand_over(script.peer, letter()), Handed)
        assert script.connections == 2
        assert len(script.contents) == 2


async def test_it_is_replaced_once_only(pinned):
    turns: dict = {"mail": [b"250 ok\r\n", Trick.CUT, Trick.CUT]}
    async with scripted_peer(pinned, turns=turns) as script, courier() as made:
        await made.hand_over(script.peer, letter())
        found = await made.hand_over(script.peer, letter())
        assert found == NotHanded(RelayTrouble.CONNECTION_LOST, "mail")
        assert script.connections == 2


@pytest.mark.parametrize("stage", ["rcpt", "data", "final"])
async def test_a_kept_connection_that_dies_later_is_told_to_the_caller(pinned, stage):
    turns: dict = {stage: [b"354 go\r\n" if stage == "data" else b"250 ok\r\n", Trick.CUT]}
    answers = {"ehlo-tls": b"250 plain\r\n"}
    async with scripted_peer(pinned, turns=turns, answers=answers) as script, courier() as made:
        await made.hand_over(script.peer, letter())
        found = await made.hand_over(script.peer, letter())
        assert found == NotHanded(RelayTrouble.CONNECTION_LOST, stage)
        assert script.connections == 1


# --- who the peer is ------------------------------------------------------------------------------------


async def test_another_certificate_than_the_pinned_one_hears_nothing(pinned, other):
    async with scripted_peer(other) as script, courier() as made:
        found = await made.hand_over(registered(script.port, pinned.pin), letter())
        assert found.trouble is RelayTrouble.WRONG_CERTIFICATE
        assert found.detail == f"tls certificate sha256={other.pin.hex()}"
        await until(lambda: script.open == 0)
        assert script.verbs == [b"EHLO", b"STARTTLS"]


@pytest.mark.parametrize("shown", ["old", "new"])
async def test_old_and_new_pin_are_both_good_during_a_roll_over(pinned, other, shown):
    async with scripted_peer(pinned if shown == "old" else other) as script, courier() as made:
        peer = registered(script.port, pinned.pin, other.pin)
        assert isinstance(await made.hand_over(peer, letter()), Handed)


async def test_a_kept_connection_is_not_used_once_its_pin_has_left_the_register(pinned, other):
    async with scripted_peer(pinned) as script, courier() as made:
        await made.hand_over(script.peer, letter())
        found = await made.hand_over(registered(script.port, other.pin), letter())
        assert found.trouble is RelayTrouble.WRONG_CERTIFICATE
        assert len(script.contents) == 1


async def test_a_peer_without_pins_gets_nothing(pinned):
    async with scripted_peer(pinned) as script, courier() as made:
        found = await made.hand_over(registered(script.port), letter())
        assert found.trouble is RelayTrouble.WRONG_CERTIFICATE


async def test_tls_1_1_is_refused(pinned, monkeypatch):
    context = pinned.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    monkeypatch.setattr(ServerCertificate, "context", lambda _: context)
    async with scripted_peer(pinned) as script:
        assert await trouble(script) is RelayTrouble.TLS_FAILED


async def test_starttls_response_injection_does_not_reach_the_encrypted_dialogue(pinned):
    injected = b"250-evil\r\n250 SIZE 1\r\n550 5.7.1 injected\r\n"
    async with scripted_peer(pinned, answers={"starttls": b"220 go\r\n" + injected}) as script:
        found = await outcome(script)
    assert found == Handed("250 2.0.0 queued as 1")
    assert script.contents == [WIRE]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"ehlo": b"250 no tls here\r\n"}, RelayTrouble.NO_STARTTLS),
        ({"starttls": b"454 4.7.0 not now\r\n"}, RelayTrouble.REFUSED_FOR_NOW),
        ({"starttls": b"554 5.7.0 never\r\n"}, RelayTrouble.REFUSED_FOR_NOW),
        ({"tls": b"220 this is no handshake\r\n" * 20}, RelayTrouble.TLS_FAILED),
        ({"tls": Trick.CUT}, RelayTrouble.TLS_FAILED),
        ({"tls": Trick.SILENCE}, RelayTrouble.SILENT),
    ],
    ids=["not-offered", "put-off", "refused", "plain", "cut", "silent"],
)
async def test_without_tls_the_peer_gets_nothing(pinned, answers, expected):
    settings = HASTY if expected is RelayTrouble.SILENT else PATIENT
    async with scripted_peer(pinned, answers=answers) as script:
        assert await trouble(script, settings) is expected
        assert b"MAIL" not in script.verbs


# --- real servers ---------------------------------------------------------------------------------------------

EIGHT_BIT = (
    "From: a@hs91.kep.tr\r\nDate: Sat, 21 Nov 2026 09:00:00 +0000\r\nMessage-ID: <1@hs91.kep.tr>\r\n"
    "Subject: ş\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n.çğıöşü\r\n..\r\n.\r\nend\r\n"
).encode()


class Keeper:
    def __init__(self) -> None:
        self.envelopes: list[Any] = []

    async def handle_DATA(self, server, session, envelope):
        self.envelopes.append(envelope)
        return "250 2.0.0 kept"

    async def handle_exception(self, error):
        raise error


async def test_aiosmtpd_takes_what_we_send(pinned):
    keeper, loop = Keeper(), asyncio.get_running_loop()
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)
    server = await loop.create_server(
        lambda: SMTP(
            keeper, tls_context=pinned.context(), require_starttls=True, enable_SMTPUTF8=True, loop=loop
        ),
        "127.0.0.1",
    )
    port = server.sockets[0].getsockname()[1]
    async with courier() as made:
        of = letter(EIGHT_BIT, "b@hs92.kep.tr", "c@hs92.kep.tr", needs_8bit=True, needs_utf8=True)
        for _ in range(3):
            assert await made.hand_over(registered(port, pinned.pin), of) == Handed("250 2.0.0 kept")
    server.close()
    assert [kept.original_content for kept in keeper.envelopes] == [EIGHT_BIT] * 3
    assert keeper.envelopes[0].rcpt_tos == ["b@hs92.kep.tr", "c@hs92.kep.tr"]
    assert {"BODY=8BITMIME", "SMTPUTF8", f"SIZE={len(EIGHT_BIT)}"} == set(keeper.envelopes[0].mail_options)


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder that Postfix's own users can enter."""
    with TemporaryDirectory(prefix="kephs-postfix-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.tools
@pytest.mark.slow
async def test_postfix_takes_what_we_send(pinned, monkeypatch, room):
    if (why := postfix.missing()) is not None:
        pytest.fail(why)
    monkeypatch.setattr(postfix, "_MASTER", postfix._MASTER.replace("  -o smtpd_tls_wrappermode=yes\n", ""))
    port = postfix.free_port()
    conf, queue, _ = postfix._configure(room, pinned.path, pinned.path, port)
    await postfix._run(
        "postconf", "-c", str(conf), "-e", "defer_transports = discard", "local_transport = discard:"
    )
    try:
        await postfix._run("postfix", "-c", str(conf), "start")
        await _listens(port)
        async with courier() as made:
            of = letter(EIGHT_BIT, "b@hs92.kep.tr", "c@hs92.kep.tr", needs_8bit=True, needs_utf8=True)
            found = [await made.hand_over(registered(port, pinned.pin), of) for _ in range(3)]
            large = await made.hand_over(registered(port, pinned.pin), letter(BIG * 30_000))
        assert all(isinstance(one, Handed) and "queued as" in one.reply for one in (*found, large))
        for name in (one.reply.split()[-1] for one in found):
            kept = await postfix._run("postcat", "-c", str(conf), "-bhq", name)
            assert kept.encode().endswith(EIGHT_BIT.replace(b"\r\n", b"\n"))
    finally:
        await postfix._stop(conf, queue)


async def _listens(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
