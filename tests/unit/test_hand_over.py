"""Handing over and taking over: the same octets after every kill, and whoever cheats with the own key is found."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from directory.accounts import Account, AccountKind, AccountState, ServiceType
from directory.addresses import KepAddress
from evidence.bundle.hand_over import MANIFEST, SEAL, HandOverError
from evidence.report import Verdict
from kephs.domain.messages import Delivery, StoredEvidence, Submission
from kephs.ports.hand_over import ForeignState, PartsError
from kephs.usecases.ending.foreign import open_foreign
from kephs.usecases.ending.hand_over import StoreMovedError
from kephs.usecases.ending.hand_over_reading import restored
from kephs.usecases.ending.hand_over_rows import plain, read_lines
from kephs.usecases.ending.take_over import KEY_FILE, TakeOverError, TakeOverFault, consent
from kephs.usecases.people.accounts import AccountError, AccountFault, Opening
from storage.hand_over_parts import KeyCipher
from tests.support.hand_over import (
    KEY,
    PERSON,
    SUCCESSOR,
    Ending,
    KilledError,
    MemoryParts,
    Successor,
    ending,
)
from tests.support.pki import AYSE_TCKN
from tests.support.world import AYSE, DOMAIN, KURUM, MEHMET, Inline, World

FILES = Callable[[dict[str, bytes]], object]


@pytest.fixture
async def old() -> Ending:
    return await ending()


@pytest.fixture
async def parts(old: Ending) -> MemoryParts:
    made = MemoryParts()
    await old.hand(made)
    return made


def contents(parts: MemoryParts) -> dict[str, bytes]:
    """Return the files without the signature and the time it was made at."""
    return {name: content for name, content in parts.files.items() if name not in {MANIFEST, SEAL}}


# ------------------------------------------------------------------ handing over


async def test_everything_that_was_handed_over_verifies(old: Ending, parts: MemoryParts):
    check = await old.check(parts)
    assert check.report.verdict is Verdict.PASSED, check.report
    assert check.manifest is not None
    assert check.manifest.counts["messages"] == 1
    assert check.manifest.counts["closed_addresses"] == 1
    assert check.report.facts["verified_in_full"] > 0
    assert check.manifest.by.person == PERSON


async def test_the_same_provider_gives_the_same_octets_again(old: Ending, parts: MemoryParts):
    again = MemoryParts()
    await old.hand(again)
    assert contents(again) == contents(parts)


async def test_killed_at_any_write_it_goes_on_and_gives_the_same_octets(old: Ending, parts: MemoryParts):
    for number in range(1, len(parts.files) + 1):
        for written in (False, True):
            dying = MemoryParts(dies_at=number, written=written)
            with pytest.raises(KilledError):
                await old.hand(dying)
            assert MANIFEST not in dying.files or (number == len(parts.files) and written)
            puts, dying.dies_at = dying.puts, 0
            dying.puts = 0
            await old.hand(dying)
            assert contents(dying) == contents(parts)
            assert dying.puts <= len(parts.files) - puts + (1 if not written else 2) + 2
    assert (await old.check(dying)).passed


async def test_what_an_earlier_try_left_damaged_or_too_much_is_set_right(old: Ending, parts: MemoryParts):
    spoilt = MemoryParts(dict(parts.files))
    name = next(name for name in spoilt.files if name.startswith("icerik/"))
    spoilt.files[name] = spoilt.files[name][:-1] + b"x"
    spoilt.files["posta/gone/0001-000001.jsonl"] = b"stale"
    spoilt.files["hesap/000001.jsonl"] += b"longer"
    await old.hand(spoilt)
    assert contents(spoilt) == contents(parts)


async def test_a_folder_with_other_things_is_refused(old: Ending):
    with pytest.raises(HandOverError):
        await old.hand(MemoryParts({"thesis.odt": b""}))


async def test_an_instance_that_works_meanwhile_has_no_manifest(old: Ending):
    parts = MemoryParts()
    inner = parts.put

    async def put(name: str, content: bytes) -> None:
        now = old.world.clock.now()
        await old.world.store.write(
            lambda tx: tx.audit.add(at=now, actor="x", action="account.opened", subject="y")
        )
        await inner(name, content)

    parts.put = put  # type: ignore[method-assign]
    with pytest.raises(StoreMovedError):
        await old.hand(parts)
    assert MANIFEST not in parts.files


async def test_an_entry_that_is_not_published_is_not_handed_over(old: Ending):
    await old.world.send(b"not a message at all")
    await old.world.store.write(
        lambda tx: tx.audit.add(at=old.world.clock.now(), actor="x", action="a.b", subject="")
    )
    await old.world.store.write(lambda tx: tx.audit.anchor(old.world.clock.now()))
    with pytest.raises(StoreMovedError):
        await old.hand(MemoryParts())


async def test_neither_passwords_nor_identity_numbers_are_handed_over(parts: MemoryParts):
    cipher = KeyCipher(KEY)
    whole = b"".join(
        cipher.open(name, content) for name, content in parts.files.items() if name.startswith("hesap/")
    )
    assert b"plain:" not in whole
    assert b"password" not in whole


async def test_what_lies_in_the_open_names_nobody(parts: MemoryParts):
    shown = b"".join(content for name, content in parts.files.items() if name.startswith("acik/"))
    assert b"ayse" not in shown.lower()
    assert AYSE.encode() not in parts.files[MANIFEST]


# ------------------------------------------------------------------ cheating


def _lines(change: Callable[[list[Any]], Any]) -> Callable[[bytes], bytes]:
    def work(content: bytes) -> bytes:
        rows = list(read_lines(content))
        rows = change(rows) or rows
        return b"".join(
            json.dumps(row, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"
            for row in rows
        )

    return work


def in_first(folder: str, change: Callable[[bytes], bytes]) -> FILES:
    def work(files: dict[str, bytes]) -> None:
        name = next(name for name in sorted(files) if name.startswith(folder))
        files[name] = change(files[name])

    return work


def without(folder: str) -> FILES:
    def work(files: dict[str, bytes]) -> None:
        for name in [name for name in files if name.startswith(folder)]:
            del files[name]

    return work


def _set(row: Any, name: str, value: Any) -> None:
    row[name] = value


CHEATS: dict[str, tuple[str, FILES]] = {
    "an evidence is left out": ("evidence", in_first("delil/", _lines(lambda rows: rows[1:]))),
    "all evidence is left out": ("evidence", without("delil/")),
    "an evidence is another's": (
        "evidence", in_first("delil/", _lines(lambda rows: _set(rows[0], "xml", rows[1]["xml"]))),
    ),
    "an evidence has no entry": (
        "evidence", in_first("delil/", _lines(lambda rows: [*rows, {**rows[0], "number": 99}])),
    ),
    "a record is another's": (
        "evidence", in_first("delil/", _lines(lambda rows: _set(rows[0], "ers", "AAAA"))),
    ),
    "an entry is left out": ("ledger", in_first("defter/", _lines(lambda rows: rows[:-1]))),
    "an entry has another salt": (
        "ledger", in_first("defter/", _lines(lambda rows: _set(rows[0], "salt", "00" * 32))),
    ),
    "an entry has another time": (
        "ledger", in_first("defter/", _lines(lambda rows: _set(rows[0], "at", rows[0]["at"] + 1))),
    ),
    "the public ledger is another": ("public ledger", in_first("acik/defter/tile/0", lambda c: bytes(len(c)))),
    "the public ledger is left out": ("public ledger", without("acik/defter/")),
    "a record of who did what is left out": ("process record", in_first("surec/", _lines(lambda rows: rows[1:]))),
    "the end of the process record is cut": ("process record", in_first("surec/", _lines(lambda rows: rows[:-1]))),
    "the whole process record is left out": ("process record", without("surec/")),
    "somebody else did it": (
        "process record", in_first("surec/", _lines(lambda rows: _set(rows[0], "actor", "kimse"))),
    ),
    "content is left out": ("content", without("icerik/")),
    "a closed address is left out": ("counts", without("kapali/")),
    "an account is left out": ("counts", in_first("hesap/", _lines(lambda rows: rows[1:]))),
    "an account has a state that there is not": (
        "rows", in_first("hesap/", _lines(lambda rows: _set(rows[0]["account"], "state", "gone"))),
    ),
    "a message is there twice": ("rows", in_first("ileti/", _lines(lambda rows: rows + rows))),
    "a file belongs to nothing": ("rows", lambda files: files.update({"baska/x": b""})),
    "a file is no JSON": ("rows", in_first("ileti/", lambda _c: b"x\n")),
    "a file is nested deep": ("rows", in_first("ileti/", lambda _c: b"[" * 100_000 + b"\n")),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CHEATS))
async def test_a_provider_that_cheats_with_its_own_key_is_found(old: Ending, parts: MemoryParts, name: str):
    step, change = CHEATS[name]
    cheat = await old.cheat(parts, change)
    report = (await old.check(cheat)).report
    assert report.verdict is Verdict.FAILED, report
    assert step in {one.name for one in report.steps if one.ok is False}
    successor = Successor(old)
    with pytest.raises(TakeOverError) as caught:
        await successor.take(cheat)
    assert caught.value.fault is TakeOverFault.NOT_SOUND
    assert successor.target.files == {}
    assert successor.domains == []


async def test_signing_the_same_contents_anew_is_no_cheating(old: Ending, parts: MemoryParts):
    assert (await old.check(await old.cheat(parts, lambda files: files))).passed


@pytest.mark.parametrize(
    "folder", ["acik/", "delil/", "defter/", "hesap/", "icerik/", "liste/", "posta/", "surec/"]
)
async def test_without_the_providers_key_no_file_is_changed_added_or_left_out(
    old: Ending, parts: MemoryParts, folder: str
):
    name = next(name for name in sorted(parts.files) if name.startswith(folder))
    for change in ("flip", "cut", "longer", "gone"):
        files = dict(parts.files)
        content = files.pop(name)
        if change != "gone":
            files[name] = {
                "flip": bytes([content[0] ^ 1]) + content[1:], "cut": content[:-1], "longer": content + b"\n",
            }[change]  # fmt: skip
        for cipher in (None, KeyCipher(KEY)):
            assert (await old.check(MemoryParts(files), cipher=cipher)).report.verdict is Verdict.FAILED
    more = MemoryParts({**parts.files, f"{folder}zzz": b""})
    if folder != "liste/":
        assert (await old.check(more)).report.verdict is Verdict.FAILED


async def test_nobody_believed_or_no_seal_is_no_pass(old: Ending, parts: MemoryParts):
    assert (await old.check(parts, trust=None)).report.verdict is Verdict.INDETERMINATE
    unsealed = MemoryParts({name: one for name, one in parts.files.items() if name != SEAL})
    assert not (await old.check(unsealed)).passed


async def test_under_a_seal_that_does_not_hold_nothing_more_is_read(old: Ending, parts: MemoryParts):
    other = await old.cheat(parts, lambda files: files.update({"acik/x.txt": b""}))
    report = (await old.check(MemoryParts({**parts.files, SEAL: other.files[SEAL]}))).report
    assert report.verdict is Verdict.FAILED
    assert "files" not in {step.name for step in report.steps}


async def test_evidence_outside_the_archive_is_parted_by_size(
    old: Ending, parts: MemoryParts, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("kephs.usecases.ending.hand_over.TAIL_OCTETS", 1)
    small = MemoryParts()
    await old.hand(small)
    names = [sorted(one for one in which.files if one.startswith("delil/")) for which in (parts, small)]
    assert (len(names[0]), len(names[1])) == (1, 2)
    assert (await old.check(small)).passed


async def test_another_key_decides_nothing(old: Ending, parts: MemoryParts):
    report = (await old.check(parts, cipher=KeyCipher(bytes(32)))).report
    assert report.verdict is Verdict.INDETERMINATE


# ------------------------------------------------------------------ taking over


async def test_addresses_are_kept_closed_ones_for_nobody(old: Ending, parts: MemoryParts):
    successor = Successor(old)
    taken = await successor.take(parts)
    assert (taken.waiting, taken.closed, taken.again) == (2, 1, False)
    rows = await successor.store.read(lambda tx: tx.foreign.addresses(DOMAIN, "", 10))
    assert {one.address: one.state for one in rows} == {
        AYSE: ForeignState.WAITING, MEHMET: ForeignState.WAITING, KURUM: ForeignState.CLOSED,
    }  # fmt: skip
    archive = await successor.store.read(lambda tx: tx.foreign.archive(DOMAIN))
    assert archive.taken_by == "Yeni Yetkili"
    head = await successor.store.read(lambda tx: tx.audit.head())
    assert (head.action, head.subject) == ("provider.taken-over", DOMAIN)


async def test_taking_over_again_changes_nothing(old: Ending, parts: MemoryParts):
    successor = Successor(old)
    await successor.take(parts)
    puts, head = successor.target.puts, await successor.store.read(lambda tx: tx.audit.head())
    assert (await successor.take(parts)).again
    assert successor.target.puts == puts
    assert await successor.store.read(lambda tx: tx.audit.head()) == head


async def test_killed_at_any_write_taking_over_goes_on(old: Ending, parts: MemoryParts):
    whole = {**parts.files, KEY_FILE: DOMAIN.encode()}
    for number in range(1, len(whole) + 1):
        successor = Successor(old, target=MemoryParts(dies_at=number))
        with pytest.raises(KilledError):
            await successor.take(parts)
        assert await successor.store.read(lambda tx: tx.foreign.archives()) == []
        assert MANIFEST not in successor.target.files
        successor.target.dies_at = 0
        assert not (await successor.take(parts)).again
        assert successor.target.files == whole
        assert successor.target.puts == len(whole) + 1


async def test_what_changes_while_it_is_copied_is_not_taken_over(old: Ending, parts: MemoryParts):
    class Fickle(MemoryParts):
        reads = 0

        async def get(self, name: str, most: int) -> bytes:
            content = await super().get(name, most)
            if name.startswith("hesap/"):
                self.reads += 1
                if self.reads > 1:
                    return bytes(len(content))
            return content

    successor = Successor(old)
    with pytest.raises(PartsError):
        await successor.take(Fickle(dict(parts.files)))
    assert MANIFEST not in successor.target.files


async def test_a_provider_is_taken_over_once(old: Ending, parts: MemoryParts):
    successor = Successor(old)
    await successor.take(parts)
    other = await old.cheat(parts, lambda files: files.update({"acik/x.txt": b""}))
    with pytest.raises(TakeOverError) as caught:
        await successor.take(other)
    assert caught.value.fault is TakeOverFault.OTHER_HAND_OVER
    with pytest.raises(TakeOverError) as caught:
        await successor.take(parts, own=DOMAIN)
    assert caught.value.fault is TakeOverFault.OWN_PROVIDER


async def test_an_address_taken_over_is_opened_for_nobody_whoever_serves_its_domain(
    old: Ending, parts: MemoryParts
):
    successor = Successor(old)
    await successor.take(parts)
    world = World()  # an instance that serves the old domain by now
    world.accounts._store = successor.store
    for address in (KURUM, AYSE):
        kind = AccountKind.LEGAL_PERSON if address == KURUM else AccountKind.REAL_PERSON
        opening = _opening(address, kind)
        with pytest.raises(AccountError) as caught:
            await world.accounts.open(opening)
        assert caught.value.fault is AccountFault.ADDRESS_TAKEN
        with pytest.raises(AccountError):
            await world.accounts.apply(opening)
    await world.accounts.open(_opening(f"yeni.kisi@{DOMAIN}", AccountKind.REAL_PERSON))


def _opening(address: str, kind: AccountKind) -> Opening:
    return Opening(address, kind, ServiceType.SEND_AND_RECEIVE, "Kurum A.Ş.", "Ayşe Yılmaz", AYSE_TCKN)


async def test_consent_needs_an_active_account_and_an_address_that_waits(old: Ending, parts: MemoryParts):
    successor = Successor(old)
    await successor.take(parts)
    own, clock = f"ayse.yilmaz@{SUCCESSOR}", old.world.clock
    how = {"register": successor.register, "clock": clock, "own": own, "by": PERSON}
    with pytest.raises(AccountError):
        await consent(successor.store, foreign=AYSE, **how)
    account = Account(
        "a1", KepAddress.parse(own), AccountKind.REAL_PERSON, ServiceType.SEND_AND_RECEIVE,
        AccountState.BLOCKED, "Ayşe Yılmaz", 1, 0, clock.now(), clock.now(),
    )  # fmt: skip
    await successor.store.write(lambda tx: tx.accounts.add(account))
    with pytest.raises(AccountError):
        await consent(successor.store, foreign=AYSE, **how)
    await successor.store.write(lambda tx: tx.accounts.set_state("a1", AccountState.ACTIVE, clock.now()))
    for foreign, fault in ((KURUM, AccountFault.NOT_POSSIBLE_NOW), ("x", AccountFault.ADDRESS_INVALID)):
        with pytest.raises(AccountError) as caught:
            await consent(successor.store, foreign=foreign, **how)
        assert caught.value.fault is fault
    done = await consent(successor.store, foreign=AYSE, **how)
    assert (done.state, done.account_id) == (ForeignState.CONSENTED, "a1")


async def test_a_message_is_found_by_either_id_with_all_that_belongs_to_it(old: Ending, parts: MemoryParts):
    successor = Successor(old)
    await successor.take(parts)
    reader = await open_foreign(successor.target, KeyCipher(KEY), Inline())
    found = await reader.find(old.message_id)
    assert found == await reader.find("1@test") == await reader.find("<1@test>")
    assert await reader.find("nobody@test") is None
    assert found is not None
    store = old.world.store
    assert found.message == await store.read(lambda tx: tx.messages.get(old.message_id))
    assert [one.row for one in found.evidences] == await store.read(
        lambda tx: tx.evidence.of_message(old.message_id)
    )
    assert found.message.digest_sha256 in found.contents
    assert await reader.account("nobody") is None


async def test_what_was_taken_over_and_then_changed_is_not_read(old: Ending, parts: MemoryParts):
    successor = Successor(old)
    await successor.take(parts)
    name = next(name for name in successor.target.files if name.startswith("ileti/"))
    successor.target.files[name] = bytes(len(successor.target.files[name]))
    reader = await open_foreign(successor.target, KeyCipher(KEY), Inline())
    with pytest.raises(HandOverError):
        await reader.find(old.message_id)


# ------------------------------------------------------------------ rows


async def test_every_row_comes_back_as_it_was(old: Ending):
    def rows(tx: Any) -> list[Any]:
        message = tx.messages.get(old.message_id)
        return [message, *tx.deliveries.of_message(old.message_id), *tx.evidence.of_message(old.message_id)]

    for row in await old.world.store.read(rows):
        kind = {Submission: Submission, Delivery: Delivery, StoredEvidence: StoredEvidence}[type(row)]
        assert restored(kind, json.loads(json.dumps(plain(row)))) == row


@pytest.mark.parametrize("value", [None, 1, [], {}, {"message_id": 1}], ids=str)
def test_a_value_that_is_no_row_is_refused(value: Any):
    with pytest.raises(ValueError, match="not a row"):
        restored(Submission, value)


def test_a_value_that_no_row_holds_is_not_written():
    with pytest.raises(TypeError):
        plain(object())
