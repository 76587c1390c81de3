"""Connections and servers that end in the worst moments: in DATA, between commit and reply, at the read gate."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.faults.clients import Answer, Endpoint, GoneError, Mailbox, Submission, mailbox, submission
from tests.faults.letters import Kind, Letter, write_letter
from tests.support.crash import Provider, until

pytestmark = pytest.mark.slow
BEFORE_THE_COMMIT = ("blobs.keep.before", "blobs.keep.after", "seal.before", "seal.after", "blobs.put.after", "store.write.before")  # fmt: skip
BEFORE_60 = ("seal.before", "seal.after", "blobs.put.after", "store.write.before")
_choice = random.Random(7)


@pytest.fixture(autouse=True)
def _nothing_leased(provider: Provider) -> None:
    """Free the work that the last test's server died over."""
    provider.let_leases_run_out()


def a_letter(provider: Provider, kind: Kind = Kind.PLAIN) -> Letter:
    ayse, mehmet = provider.people["ayse"], provider.people["mehmet"]
    return write_letter(_choice.randrange(10**6), kind, ayse, [mehmet.address], _choice)


@asynccontextmanager
async def session(provider: Provider, letter: Letter) -> AsyncIterator[Submission]:
    to = Endpoint(provider.settings.network.submission_port, provider.tls())
    async with submission(to, letter.sender) as opened:
        yield opened


async def submit(provider: Provider, letter: Letter) -> Answer:
    async with session(provider, letter) as opened:
        return await opened.deliver(letter.sender.address, letter.recipients, letter.dotted)


def accepted(provider: Provider, letter: Letter) -> list[tuple[str, str]]:
    """Return evidence id and message id of each acceptance of a letter."""
    return provider.rows(
        "SELECT evidence_id, message_id FROM evidence JOIN messages USING (message_id)"
        " WHERE kind = 10 AND user_message_id = ?",
        letter.user_id,
    )


def evidence(provider: Provider, message_id: str) -> list[int]:
    query = "SELECT kind FROM evidence WHERE message_id = ? ORDER BY kind"
    return [kind for (kind,) in provider.rows(query, message_id)]


async def expect_one_life(provider: Provider, letter: Letter, answer: Answer) -> None:
    """Check that the letter was accepted once, as answered, and is delivered once."""
    assert answer.code == 250
    assert accepted(provider, letter) == [(answer.evidence_id, answer.message_id)]
    await until(lambda: not provider.work_due(), "the work due")
    assert evidence(provider, answer.message_id) == [10, 40]
    async with inbox(provider, letter) as (opened, _):
        assert await _uids(opened, answer.message_id) != []


@asynccontextmanager
async def inbox(provider: Provider, letter: Letter) -> AsyncIterator[tuple[Mailbox, str]]:
    to = Endpoint(provider.settings.network.imap_port, provider.tls())
    (reader,) = (h for h in provider.people.values() if h.address == letter.recipients[0])
    async with mailbox(to, reader) as opened:
        yield opened


async def _uids(opened: Mailbox, message_id: str) -> list[str]:
    (line,) = await opened.command(f'UID SEARCH HEADER Message-ID "{message_id}"')
    uids = line.text.removeprefix("* SEARCH").split()
    assert len(uids) <= 1
    return uids


# ------------------------------------------------------------------------------------ in DATA


async def test_a_client_that_hangs_up_in_data_leaves_nothing(provider: Provider):
    letter = a_letter(provider, Kind.BIG)
    async with await provider.start():
        async with session(provider, letter) as opened:
            await opened.begin(letter.sender.address, letter.recipients)
            await opened.wire.send(letter.dotted[:-5])
            await until(provider.temporary_files, "the spool's file")
        await until(lambda: not provider.temporary_files(), "the spool to be forgotten")
        assert accepted(provider, letter) == []
        await expect_one_life(provider, letter, await submit(provider, letter))


async def test_a_server_killed_in_data_sweeps_the_spool_when_it_starts_again(provider: Provider):
    letter = a_letter(provider, Kind.BIG)
    async with await provider.start() as server, session(provider, letter) as opened:
        await opened.begin(letter.sender.address, letter.recipients)
        await opened.wire.send(letter.dotted[:-5])
        await until(provider.temporary_files, "the spool's file")
        await server.kill()
    assert provider.temporary_files()
    async with await provider.start():
        assert provider.temporary_files() == []
        assert accepted(provider, letter) == []
        await expect_one_life(provider, letter, await submit(provider, letter))
    assert await provider.fsck() == ""


# ------------------------------------------------------------------- between the dot and the reply


@pytest.mark.parametrize("kind", [Kind.PLAIN, Kind.BIG])
async def test_a_client_that_hangs_up_after_the_final_dot_has_sent_its_message_once(
    provider: Provider, kind: Kind
):
    letter = a_letter(provider, kind)
    async with await provider.start():
        async with session(provider, letter) as opened:
            await opened.begin(letter.sender.address, letter.recipients)
            await opened.wire.send(letter.dotted)
            await opened.wire.part()
        answers = await asyncio.gather(*(submit(provider, letter) for _ in range(3)))
        assert len(set(answers)) == 1
        await expect_one_life(provider, letter, answers[0])


@pytest.mark.parametrize("kind", [Kind.PLAIN, Kind.BIG])
async def test_a_message_committed_before_the_server_died_gets_its_first_answer_again(
    provider: Provider, kind: Kind
):
    letter = a_letter(provider, kind)
    server = await provider.start("store.write.after:1", roles=("smtp",))
    with pytest.raises(GoneError):
        await submit(provider, letter)
    assert await server.dead() == -9
    ((evidence_id, message_id),) = accepted(provider, letter)
    assert await provider.fsck() == ""
    async with await provider.start():
        answer = await submit(provider, letter)
        assert (answer.evidence_id, answer.message_id) == (evidence_id, message_id)
        await expect_one_life(provider, letter, answer)


@pytest.mark.parametrize(
    ("point", "kind"),
    [(point, Kind.BIG) for point in BEFORE_THE_COMMIT]
    # small content becomes durable with its evidence
    + [(point, Kind.PLAIN) for point in BEFORE_THE_COMMIT if not point.startswith("blobs.keep.")],
)
async def test_a_message_not_committed_when_the_server_died_never_happened(
    provider: Provider, point: str, kind: Kind
):
    letter = a_letter(provider, kind)
    server = await provider.start(f"{point}:1", roles=("smtp",))
    with pytest.raises(GoneError):
        await submit(provider, letter)
    assert await server.dead() == -9
    assert accepted(provider, letter) == []
    assert await provider.fsck() == ""
    async with await provider.start():
        await expect_one_life(provider, letter, await submit(provider, letter))


@pytest.mark.parametrize(("point", "kept"), [("store.write.after", 1), ("store.write.before", 0)])
async def test_a_refusal_cut_off_has_evidence_11_once_or_not_at_all(
    provider: Provider, point: str, kept: int
):
    letter = a_letter(provider, Kind.UNSIGNED)
    query = "SELECT evidence_id FROM evidence JOIN messages USING (message_id) WHERE kind = 11 AND user_message_id = ?"
    server = await provider.start(f"{point}:1", roles=("smtp",))
    with pytest.raises(GoneError):
        await submit(provider, letter)
    assert await server.dead() == -9
    assert len(provider.rows(query, letter.user_id)) == kept
    assert await provider.fsck() == ""


# ------------------------------------------------------------------------------- at the read gate


async def _delivered(provider: Provider, letter: Letter) -> Answer:
    async with await provider.start():
        answer = await submit(provider, letter)
        await until(lambda: not provider.work_due(), "the work due")
    return answer


async def _read_and_die(provider: Provider, letter: Letter, message_id: str, point: str) -> None:
    """Ask for content where the server dies at the point; not one byte of content may come."""
    server = await provider.start(point, roles=("imap",))
    shown: list[str] = []
    async with inbox(provider, letter) as (opened, _):
        (uid,) = await _uids(opened, message_id)
        with pytest.raises(GoneError):
            await opened.command(f"UID FETCH {uid} (UID BODY.PEEK[])", shown.append)
    assert await server.dead() == -9
    assert shown == []


async def _read(provider: Provider, letter: Letter, message_id: str) -> bytes:
    async with inbox(provider, letter) as (opened, _):
        (uid,) = await _uids(opened, message_id)
        (line,) = await opened.command(f"UID FETCH {uid} (UID BODY.PEEK[])")
    return line.literals[0]


@pytest.mark.parametrize("point", BEFORE_60)
async def test_nothing_is_shown_and_no_60_exists_where_the_server_dies_before_it_is_durable(
    provider: Provider, point: str
):
    letter = a_letter(provider)
    answer = await _delivered(provider, letter)
    await _read_and_die(provider, letter, answer.message_id, f"{point}:1")
    assert evidence(provider, answer.message_id) == [10, 40]
    assert await provider.fsck() == ""
    async with await provider.start():
        assert letter.content in await _read(provider, letter, answer.message_id)
        assert evidence(provider, answer.message_id) == [10, 40, 60]


async def test_60_durable_when_the_server_died_is_the_only_one(provider: Provider):
    letter = a_letter(provider)
    answer = await _delivered(provider, letter)
    await _read_and_die(provider, letter, answer.message_id, "store.write.after:1")
    assert evidence(provider, answer.message_id) == [10, 40, 60]
    assert await provider.fsck() == ""
    async with await provider.start():
        assert letter.content in await _read(provider, letter, answer.message_id)
        await until(lambda: not provider.work_due(), "the work due")
    assert evidence(provider, answer.message_id) == [10, 40, 60]
    assert await provider.fsck() == ""
