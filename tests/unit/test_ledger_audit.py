"""A provider that cheats, in each way it can, is found by somebody outside who holds two of its checkpoints."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidence.ledger import audit as ledger_audit
from evidence.ledger.audit import Witnesses, audit, audit_checkpoint, audit_entry
from evidence.ledger.merkle import leaf_data, leaf_hash
from evidence.ledger.notes import (
    Checkpoint,
    KeyKind,
    Note,
    NoteSigner,
    add_cosignatures,
    cosign,
    sign_checkpoint,
)
from evidence.ledger.proof import LedgerProof, make_proof
from evidence.ledger.tiles import GrowingTree, TileSource
from evidence.report import Report, SubIndication, Verdict

AT = datetime(2026, 11, 22, 9, tzinfo=UTC)


def signer(name: str, seed: bytes, kind: KeyKind = KeyKind.NOTE) -> NoteSigner:
    return NoteSigner(name, Ed25519PrivateKey.from_private_bytes(seed * 32), kind)


LOG = signer("hs91.kep.tr/kephs-ledger", b"l")
W1 = signer("hs92.kep.tr/w", b"1", KeyKind.COSIGNATURE)
W2 = signer("witness.example", b"2", KeyKind.COSIGNATURE)
KNOWN = Witnesses((W1.verifier, W2.verifier))


class Provider:
    """A provider with its ledger; what it publishes is made from whatever its rows say now."""

    def __init__(self, count: int) -> None:
        self.rows: list[tuple[bytes, bytes]] = []
        self.tiles: dict[tuple[int, int], bytes] = {}
        self.add(count)

    def add(self, count: int, word: str = "evidence") -> "Provider":
        for number in range(len(self.rows), len(self.rows) + count):
            self.rows.append(row(f"{word} {number}"))
        return self

    def publish(self) -> bytes:
        tree = GrowingTree()
        leaves = [leaf_hash(leaf_data(salt, sha256(xml).digest())) for xml, salt in self.rows]
        self.tiles = {(tile.level, tile.number): tile.hashes for tile in tree.append(leaves)}
        return sign_checkpoint(Checkpoint(LOG.name, tree.size, tree.root()), LOG)

    def read(self, level: int, number: int, width: int) -> bytes | None:
        return self.tiles.get((level, number))

    def proof(self, number: int, note: bytes) -> bytes:
        source = TileSource(self.read, len(self.rows))
        return make_proof(number, self.rows[number - 1][1], note, source).encode()


def row(text: str) -> tuple[bytes, bytes]:
    return text.encode(), sha256(b"salt of " + text.encode()).digest()


def audited(provider: Provider, old: bytes, new: bytes, **options: object) -> Report:
    return audit(old, new, provider.read, LOG.verifier, AT, **options)  # type: ignore[arg-type]


def failing(report: Report) -> set[str]:
    return {step.number for step in report.steps if step.ok is False}


# --- an honest one ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "more"), [(0, 0), (0, 1), (0, 600), (1, 0), (1, 1), (255, 1), (256, 1), (257, 600), (300, 0)]
)
def test_an_honest_provider_passes_every_step(old, more):
    provider = Provider(old)
    first = provider.publish()
    second = provider.add(more).publish()
    report = audited(provider, first, second)
    assert report.verdict is Verdict.PASSED, report.failing_step
    assert [step.number for step in report.steps] == [str(number) for number in range(1, 10)]
    assert all(step.ok for step in report.steps[:8])
    assert report.facts["old_size"] == old
    assert report.facts["new_size"] == old + more
    assert report.facts["origin"] == LOG.name


# --- each way to cheat; 700 entries fill two tiles and a part of a third -----------------------------------------


def drop_the_last(provider: Provider) -> None:
    provider.rows.pop()


def drop_one_in_the_middle(provider: Provider) -> None:
    del provider.rows[300]


def alter_one(provider: Provider) -> None:
    provider.rows[300] = (b"what suits us better", provider.rows[300][1])


def swap_two(provider: Provider) -> None:
    provider.rows[10], provider.rows[300] = provider.rows[300], provider.rows[10]


def insert_a_back_dated_one(provider: Provider) -> None:
    provider.rows.insert(300, row("it was sent in time, really"))


def change_only_a_salt(provider: Provider) -> None:
    provider.rows[300] = (provider.rows[300][0], bytes(32))


def rewrite_everything(provider: Provider) -> None:
    count = len(provider.rows)
    provider.rows.clear()
    provider.add(count, "rewritten")


CHEATS = [
    drop_the_last, drop_one_in_the_middle, alter_one, swap_two, insert_a_back_dated_one, change_only_a_salt, rewrite_everything,
]  # fmt: skip


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.__name__)
def test_what_was_entered_before_the_first_checkpoint_cannot_change_any_more(cheat):
    provider = Provider(700)
    first = provider.publish()
    cheat(provider)
    second = provider.add(5, "later").publish()
    report = audited(provider, first, second)
    assert report.verdict is Verdict.FAILED
    assert report.sub_indication is SubIndication.HASH_FAILURE
    assert failing(report) == {"6", "7", "8"}  # the new tree is whole, but it does not begin with the old one


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.__name__)
def test_the_same_cheats_show_where_nothing_was_entered_after_them(cheat):
    provider = Provider(700)
    first = provider.publish()
    cheat(provider)
    report = audited(provider, first, provider.publish())
    assert report.verdict is Verdict.FAILED
    shrunk, grown = cheat in {drop_the_last, drop_one_in_the_middle}, cheat is insert_a_back_dated_one
    assert failing(report) == ({"3"} if shrunk else {"6", "7", "8"} if grown else {"4"})


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.__name__)
def test_a_provider_that_cheats_but_shows_its_old_tiles_and_notes_fails_once_somebody_has_a_newer_checkpoint(
    cheat,
):
    provider = Provider(700)
    first = provider.publish()
    shown = dict(provider.tiles)
    cheat(provider)
    second = provider.add(5, "later").publish()
    provider.tiles = shown
    report = audited(provider, first, second)
    assert not report.passed
    assert "5" in failing(report)


@pytest.mark.parametrize("number", [0, 1, 2], ids=["first", "second", "partial"])
def test_a_leaf_altered_below_untouched_upper_tiles_is_found_and_named(number):
    provider = Provider(700)
    first = provider.publish()
    second = provider.add(5).publish()
    leaves = provider.tiles[0, number]
    provider.tiles[0, number] = leaves[:64] + bytes(32) + leaves[96:]
    report = audited(provider, first, second)
    assert report.verdict is Verdict.FAILED
    assert "8" in failing(report)
    if number < 2:  # the partial one has nothing above it: the root itself differs
        assert failing(report) == {"8"}
        assert report.failing_step.detail == f"tile/0/{number:03d} is not what tile/1/000.p/2 says"


def test_a_leaf_altered_after_the_older_checkpoint_is_found_by_the_newer_one():
    provider = Provider(700)
    first = provider.publish()
    second = provider.add(5).publish()
    leaves = provider.tiles[0, 2]
    provider.tiles[0, 2] = leaves[: 190 * 32] + bytes(32) + leaves[191 * 32 :]
    assert failing(audited(provider, first, second)) == {"5", "7", "8"}


def test_an_upper_tile_that_is_not_the_one_over_the_leaves_is_found():
    provider = Provider(700)
    first = provider.publish()
    second = provider.add(5).publish()
    provider.tiles[1, 0] = bytes(32) + provider.tiles[1, 0][32:]
    assert failing(audited(provider, first, second)) == {"5", "6", "7", "8"}


def test_two_people_shown_two_trees_of_one_size_find_a_split_view():
    provider = Provider(700)
    for_me = provider.publish()
    alter_one(provider)
    for_you = provider.publish()
    for one, other in ((for_me, for_you), (for_you, for_me)):
        report = audited(provider, one, other, in_order=False)
        assert report.verdict is Verdict.FAILED
        assert failing(report) == {"4"}
        assert "split view" in report.failing_step.detail


def test_two_people_shown_two_trees_of_different_sizes_find_it_over_the_tiles_in_whatever_order():
    provider = Provider(700)
    for_me = provider.publish()
    mine = dict(provider.tiles)
    alter_one(provider)
    for_you = provider.add(9).publish()
    yours = provider.tiles
    for tiles in (mine, yours):
        provider.tiles = tiles
        for one, other in ((for_me, for_you), (for_you, for_me)):
            report = audited(provider, one, other, in_order=False)
            assert not report.passed
            assert "7" in failing(report)
    assert report.verdict is Verdict.FAILED


def test_two_people_with_honest_checkpoints_pass_in_whatever_order():
    provider = Provider(700)
    small = provider.publish()
    large = provider.add(9).publish()
    assert audited(provider, large, small, in_order=False).passed
    assert audited(provider, small, large, in_order=False).passed


def test_an_old_checkpoint_shown_again_as_the_newest_is_found():
    provider = Provider(600)
    replayed = provider.publish()
    held = provider.add(100).publish()
    report = audited(provider, held, replayed)
    assert report.verdict is Verdict.FAILED
    assert failing(report) == {"3"}
    assert "old checkpoint" in report.failing_step.detail


def test_that_nothing_new_is_shown_is_seen_by_the_witnesses_times():
    provider = Provider(600)
    note = provider.publish()
    note = add_cosignatures(note, cosign(note, W1, AT - timedelta(days=3)).line, KNOWN.keys)
    report = audited(provider, note, note, witnesses=KNOWN)
    assert report.passed
    assert report.facts["cosigned"] == {W1.name: "2026-11-19T09:00:00+00:00"}
    assert report.steps[8].detail == f"{W1.name} at 2026-11-19T09:00:00Z"


@pytest.mark.parametrize("gone", [(0, 0), (0, 2), (1, 0)])
def test_tiles_that_cannot_be_had_never_pass(gone):
    provider = Provider(700)
    first = provider.publish()
    second = provider.add(5).publish()
    del provider.tiles[gone]
    report = audited(provider, first, second)
    assert report.verdict is Verdict.INDETERMINATE
    assert report.sub_indication is SubIndication.SIGNED_DATA_NOT_FOUND


# --- signatures ------------------------------------------------------------------------------------------------


def test_checkpoints_that_the_log_did_not_sign_say_nothing_about_it():
    provider = Provider(10)
    good = provider.publish()
    parsed = Note.parse(good)
    stranger = signer(LOG.name, b"x")
    unsigned = replace(parsed, signatures=(stranger.sign(parsed.text),)).encode()
    forged = replace(parsed, signatures=(replace(parsed.signatures[0], signature=bytes(64)),)).encode()
    for place in (0, 1):
        for note, verdict, sub in (
            (unsigned, Verdict.INDETERMINATE, SubIndication.NO_SIGNING_CERTIFICATE_FOUND),
            (forged, Verdict.FAILED, SubIndication.SIG_CRYPTO_FAILURE),
            (b"no note", Verdict.FAILED, SubIndication.FORMAT_FAILURE),
        ):
            pair = (note, good) if place == 0 else (good, note)
            report = audited(provider, *pair)
            assert (report.verdict, report.sub_indication) == (verdict, sub)
            assert failing(report) == {str(place + 1)}
            assert len(report.steps) == 9
            assert not audit_checkpoint(note, LOG.verifier, AT).passed
    assert audit_checkpoint(good, LOG.verifier, AT).passed


def test_too_few_witnesses_are_not_enough_and_one_key_under_two_names_is_one():
    provider = Provider(10)
    note = provider.publish()
    twin = replace(W1, name="hs92.kep.tr/other")
    keys = (*KNOWN.keys, twin.verifier)
    both = add_cosignatures(note, cosign(note, W1, AT).line + cosign(note, twin, AT).line, keys)
    for quorum, verdict in ((0, Verdict.PASSED), (1, Verdict.PASSED), (2, Verdict.INDETERMINATE)):
        report = audited(provider, both, both, witnesses=Witnesses(keys, quorum))
        assert report.verdict is verdict
        assert audit_checkpoint(both, LOG.verifier, AT, witnesses=Witnesses(keys, quorum)).verdict is verdict
    full = add_cosignatures(both, cosign(note, W2, AT).line, keys)
    assert audited(provider, full, full, witnesses=Witnesses(keys, 2)).passed
    assert not audited(provider, note, note, witnesses=Witnesses(keys, 1)).passed


def test_a_cosignature_of_the_future_does_not_count():
    note = Provider(3).publish()
    note = add_cosignatures(note, cosign(note, W1, AT + timedelta(hours=1)).line, KNOWN.keys)
    assert not audit_checkpoint(note, LOG.verifier, AT, witnesses=replace(KNOWN, quorum=1)).passed
    later = AT + timedelta(hours=1)
    assert audit_checkpoint(note, LOG.verifier, later, witnesses=replace(KNOWN, quorum=1)).passed


def test_the_leaves_are_read_only_where_that_is_wanted_and_bounded(monkeypatch):
    provider = Provider(700)
    first = provider.publish()
    second = provider.add(5).publish()
    assert audited(provider, first, second, walk=False).steps[7].ok is None
    monkeypatch.setattr(ledger_audit, "WALK_LIMIT", 704)
    report = audited(provider, first, second)
    assert report.steps[7].ok is None
    assert report.passed


def test_a_signed_size_beyond_all_reason_ends_at_once():
    huge = sign_checkpoint(Checkpoint(LOG.name, (1 << 63) - 1, bytes(32)), LOG)
    reads = []

    def read(level: int, number: int, width: int) -> bytes:
        reads.append(level)
        return bytes(32) * width

    report = audit(Provider(3).publish(), huge, read, LOG.verifier, AT)
    assert not report.passed
    assert len(reads) < 100


# --- one entry -------------------------------------------------------------------------------------------------


@pytest.fixture
def provider() -> Provider:
    return Provider(700)


@pytest.mark.parametrize("number", [1, 256, 257, 700])
def test_an_evidence_in_the_ledger_is_proven(provider, number):
    note = provider.publish()
    xml = provider.rows[number - 1][0]
    report = audit_entry(provider.proof(number, note), xml, LOG.verifier, AT, held=note)
    assert report.verdict is Verdict.PASSED
    assert [step.number for step in report.steps] == ["1", "2", "3", "4", "5"]
    assert (report.facts["number"], report.facts["size"]) == (number, 700)


def test_an_altered_or_another_evidence_is_not_the_one_entered(provider):
    note = provider.publish()
    proof = provider.proof(300, note)
    for xml in (b"altered", provider.rows[298][0], provider.rows[299][0] + b"\n"):
        report = audit_entry(proof, xml, LOG.verifier, AT)
        assert report.verdict is Verdict.FAILED
        assert report.sub_indication is SubIndication.HASH_FAILURE
        assert failing(report) == {"4"}


def test_no_flipped_byte_of_evidence_or_proof_passes(provider):
    note = provider.publish()
    proof, xml = provider.proof(5, note), provider.rows[4][0]
    for at in range(len(proof)):
        broken = proof[:at] + bytes([proof[at] ^ 1]) + proof[at + 1 :]
        assert not audit_entry(broken, xml, LOG.verifier, AT).passed
    for at in range(len(xml)):
        assert not audit_entry(
            proof, xml[:at] + bytes([xml[at] ^ 1]) + xml[at + 1 :], LOG.verifier, AT
        ).passed


def test_a_provider_that_swaps_the_evidence_cannot_prove_the_one_it_gave_out(provider):
    held = provider.publish()
    given_out = provider.rows[300][0]
    alter_one(provider)
    note = provider.publish()
    report = audit_entry(provider.proof(301, note), given_out, LOG.verifier, AT, held=held)
    assert report.verdict is Verdict.FAILED
    assert failing(report) == {"3", "4"}


def test_a_proof_in_a_tree_made_for_one_reader_fails_against_the_checkpoint_another_holds(provider):
    held = provider.publish()
    provider.rows[300] = row("made for one reader")
    note = provider.publish()
    proof = provider.proof(301, note)
    assert audit_entry(proof, b"made for one reader", LOG.verifier, AT).passed
    report = audit_entry(proof, b"made for one reader", LOG.verifier, AT, held=held)
    assert report.verdict is Verdict.FAILED
    assert failing(report) == {"3"}


def test_a_held_checkpoint_of_another_size_says_nothing_by_itself(provider):
    held = provider.publish()
    note = provider.add(3).publish()
    report = audit_entry(provider.proof(301, note), provider.rows[300][0], LOG.verifier, AT, held=held)
    assert report.passed
    assert report.steps[2].ok is None
    assert "700" in report.steps[2].detail


def test_a_held_checkpoint_that_is_none_fails(provider):
    proof = provider.proof(301, provider.publish())
    assert failing(audit_entry(proof, provider.rows[300][0], LOG.verifier, AT, held=b"none")) == {"3"}


def test_a_proof_whose_checkpoint_the_log_did_not_sign_proves_nothing(provider):
    note = provider.publish()
    read = LedgerProof.read(provider.proof(5, note))
    parsed = Note.parse(note)
    own = signer(LOG.name, b"x")
    unsigned = replace(read, note=replace(parsed, signatures=(own.sign(parsed.text),)).encode()).encode()
    report = audit_entry(unsigned, provider.rows[4][0], LOG.verifier, AT)
    assert report.verdict is Verdict.INDETERMINATE
    assert [step.ok for step in report.steps] == [True, False, None, None, None]
    report = audit_entry(b"no proof", provider.rows[4][0], LOG.verifier, AT)
    assert (report.verdict, report.sub_indication) == (Verdict.FAILED, SubIndication.FORMAT_FAILURE)
    assert [step.number for step in report.steps] == ["1", "2", "3", "4", "5"]


def test_every_report_is_plain_data(provider):
    note = provider.publish()
    for report in (
        audited(provider, note, note),
        audit_checkpoint(note, LOG.verifier, AT),
        audit_entry(provider.proof(5, note), provider.rows[4][0], LOG.verifier, AT),
    ):
        assert report.to_json()["verdict"] == "TOTAL-PASSED"
