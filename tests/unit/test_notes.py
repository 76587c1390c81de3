"""Signed notes and checkpoints: as strangers' programs write and read them, and nothing looser."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from evidence.ledger.merkle import empty_root
from evidence.ledger.notes import (
    MAX_NOTE,
    MAX_SIGNATURES,
    Checkpoint,
    KeyKind,
    Note,
    NoteError,
    NoteSignatureError,
    NoteSigner,
    NoteVerifier,
    UnsignedNoteError,
    add_cosignatures,
    cosign,
    open_note,
    sign_checkpoint,
)

AT = datetime(2026, 11, 22, 9, 0, 0, 999_999, tzinfo=UTC)
SECONDS = AT.replace(microsecond=0)


def signer(name: str, kind: KeyKind = KeyKind.NOTE, seed: int = 1) -> NoteSigner:
    return NoteSigner(name, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32), kind)


LOG = signer("hs91.kep.tr/kephs-ledger")
W1 = signer("hs92.kep.tr/kephs-witness", KeyKind.COSIGNATURE, 2)
W2 = signer("witness.example/w2", KeyKind.COSIGNATURE, 3)
POINT = Checkpoint(LOG.name, 20852163, bytes(range(32)))
NOTE = sign_checkpoint(POINT, LOG)


# --- known vectors ---------------------------------------------------------------------------------------------

SKEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
LINE = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
# The checkpoint of the specification, with a log's signature and a witness's; their keys are not published.
SPEC = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
).encode()
# A note of the signed-note specification with its key.
SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
SPEC_NOTE = (
    b"This is an example message.\n\n"
    b"\xe2\x80\x94 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
# What a public log published on 23 May 2026, with the keys of the log and of three of its witnesses.
PUBLIC = (
    "arche2025h1.staging.ct.transparency.dev\n"
    "1432088532\n"
    "U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=\n"
    "\n"
    "— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=\n"
    "— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=\n"
    "— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==\n"
    "— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==\n"
    "— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==\n"
    "— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==\n"
).encode()
PUBLIC_KEYS = [
    "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
]


def test_a_public_logs_checkpoint_and_its_witnesses_signatures_hold():
    opened = open_note(PUBLIC, map(NoteVerifier.parse, PUBLIC_KEYS))
    assert opened.note.encode() == PUBLIC
    assert (opened.checkpoint.origin, opened.checkpoint.size) == (PUBLIC_KEYS[0].split("+")[0], 1432088532)
    assert opened.cosigned == {
        key.split("+")[0]: datetime(2026, 5, 23, 21, 50, 24, tzinfo=UTC) for key in PUBLIC_KEYS[1:]
    }


def test_keys_and_signatures_are_byte_for_byte_those_of_the_reference_example():
    peter = NoteSigner.parse(SKEY)
    assert peter.verifier == NoteVerifier.parse(VKEY)
    assert (peter.skey, peter.verifier.vkey) == (SKEY, VKEY)
    assert peter.sign(TEXT.encode()).line.decode() == LINE
    assert SKEY[-12:] not in repr(peter)


def test_the_notes_of_the_specifications_are_read_and_written_back():
    note = Note.parse(SPEC_NOTE)
    NoteVerifier.parse(SPEC_KEY).check(note.text, note.signatures[0].signature)
    assert note.encode() == SPEC_NOTE
    point = Note.parse(SPEC)
    assert point.encode() == SPEC
    found = Checkpoint.parse(point.text)
    assert (found.origin, found.size) == ("example.com/behind-the-sofa", 20852163)
    assert found.encode() == point.text
    # 72 octets behind the key id: eight of time, 64 of signature.
    assert int.from_bytes(point.signatures[1].signature[:8], "big") == 1679315147


def test_a_cosignature_covers_the_time_and_the_text_as_the_specification_says():
    line = cosign(NOTE, W1, AT)
    seconds = int(SECONDS.timestamp())
    message = b"cosignature/v1\ntime %d\n" % seconds + POINT.encode()
    assert line.signature == seconds.to_bytes(8, "big") + W1.key.sign(message)
    assert line.key_id == W1.verifier.key_id
    assert W1.verifier.vkey.split("+", 2)[2].startswith("BI")  # 0x04 leads the key


# --- opening ---------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_opened_with_the_keys_that_are_known_and_says_who_signed_when():
    note = add_cosignatures(
        NOTE, cosign(NOTE, W1, AT).line + cosign(NOTE, W2, AT).line, [W1.verifier, W2.verifier]
    )
    opened = open_note(note, [W2.verifier, LOG.verifier])
    assert opened.checkpoint == POINT
    assert [one.verifier.name for one in opened.signed] == [LOG.name, W2.name]
    assert opened.cosigned == {W2.name: SECONDS}


def test_signatures_of_unknown_keys_are_ignored_even_if_name_or_id_is_known():
    strangers = [
        replace(LOG.sign(POINT.encode()), key_id=b"abcd"),
        replace(LOG.sign(POINT.encode()), name="somebody.else"),
    ]
    parsed = Note.parse(NOTE)
    note = replace(parsed, signatures=(*strangers, *parsed.signatures)).encode()
    assert len(open_note(note, [LOG.verifier]).signed) == 1


def test_one_bad_signature_of_a_known_key_refuses_the_note():
    parsed = Note.parse(NOTE)
    bad = replace(cosign(NOTE, W1, AT), signature=bytes(72))
    note = replace(parsed, signatures=(*parsed.signatures, bad)).encode()
    assert open_note(note, [LOG.verifier]).checkpoint == POINT
    with pytest.raises(NoteSignatureError):
        open_note(note, [LOG.verifier, W1.verifier])


def test_a_note_without_the_logs_own_signature_is_refused():
    parsed = Note.parse(NOTE)
    only_witness = replace(parsed, signatures=(cosign(NOTE, W1, AT),)).encode()
    with pytest.raises(UnsignedNoteError):
        open_note(only_witness, [LOG.verifier, W1.verifier])
    with pytest.raises(UnsignedNoteError):
        open_note(NOTE, [signer(LOG.name, seed=9).verifier])
    with pytest.raises(UnsignedNoteError):
        open_note(NOTE, [])


def test_a_checkpoint_of_one_log_signed_by_another_is_not_that_logs_word():
    other = signer("hs92.kep.tr/kephs-ledger", seed=5)
    note = Note(POINT.encode(), (other.sign(POINT.encode()),)).encode()
    with pytest.raises(UnsignedNoteError):
        open_note(note, [LOG.verifier, other.verifier])


def test_a_witnesss_key_under_the_logs_name_does_not_make_it_the_log():
    same = signer(LOG.name, KeyKind.COSIGNATURE, 1)
    note = Note(POINT.encode(), (same.sign(POINT.encode(), AT),)).encode()
    with pytest.raises(UnsignedNoteError):
        open_note(note, [LOG.verifier, same.verifier])


def test_no_flipped_byte_of_a_cosigned_checkpoint_is_the_same_statement():
    note = add_cosignatures(NOTE, cosign(NOTE, W1, AT).line, [W1.verifier])
    keys = [LOG.verifier, W1.verifier]
    good = open_note(note, keys)
    for at in range(len(note)):
        for bit in (1, 2, 32, 128):
            broken = note[:at] + bytes([note[at] ^ bit]) + note[at + 1 :]
            try:
                opened = open_note(broken, keys)
            except NoteError:
                continue
            # A line whose name or id changed is a stranger's: the log still says the same, the witness says nothing.
            assert opened.checkpoint == good.checkpoint
            assert opened.cosigned == {}


# --- witnesses' answers ----------------------------------------------------------------------------------------


def test_a_newer_cosignature_replaces_the_same_keys_older_one():
    first = add_cosignatures(NOTE, cosign(NOTE, W1, AT).line, [W1.verifier])
    both = add_cosignatures(first, cosign(first, W2, AT).line, [W1.verifier, W2.verifier])
    later = add_cosignatures(both, cosign(both, W1, AT + timedelta(hours=1)).line, [W1.verifier])
    opened = open_note(later, [LOG.verifier, W1.verifier, W2.verifier])
    assert opened.cosigned == {W1.name: SECONDS + timedelta(hours=1), W2.name: SECONDS}
    assert len(Note.parse(later).signatures) == 3


def test_strangers_lines_in_an_answer_are_left_out_and_an_answer_of_strangers_is_refused():
    answer = cosign(NOTE, W2, AT).line + cosign(NOTE, W1, AT).line
    assert add_cosignatures(NOTE, answer, [W1.verifier]) == NOTE + cosign(NOTE, W1, AT).line
    with pytest.raises(UnsignedNoteError):
        add_cosignatures(NOTE, answer, [])
    with pytest.raises(UnsignedNoteError):  # a log's key is no witness's
        add_cosignatures(NOTE, LOG.sign(POINT.encode()).line, [LOG.verifier])


def test_a_cosignature_of_another_checkpoint_is_refused():
    other = sign_checkpoint(replace(POINT, size=5), LOG)
    with pytest.raises(NoteSignatureError):
        add_cosignatures(NOTE, cosign(other, W1, AT).line, [W1.verifier])


def test_a_cosignature_with_another_time_is_refused():
    line = cosign(NOTE, W1, AT)
    moved = replace(line, signature=(int(AT.timestamp()) + 1).to_bytes(8, "big") + line.signature[8:])
    with pytest.raises(NoteSignatureError):
        add_cosignatures(NOTE, moved.line, [W1.verifier])


def test_a_cosignature_of_the_future_is_refused_where_the_caller_knows_the_time():
    line = cosign(NOTE, W1, AT).line
    assert add_cosignatures(NOTE, line, [W1.verifier], latest=SECONDS)
    with pytest.raises(NoteSignatureError):
        add_cosignatures(NOTE, line, [W1.verifier], latest=SECONDS - timedelta(seconds=1))


@pytest.mark.parametrize("seconds", [0, 1 << 62, (1 << 64) - 1], ids=["none", "far", "last"])
def test_times_that_are_none_are_refused(seconds):
    forged = b"cosignature/v1\ntime %d\n" % seconds + POINT.encode()
    line = replace(cosign(NOTE, W1, AT), signature=seconds.to_bytes(8, "big") + W1.key.sign(forged))
    with pytest.raises(NoteSignatureError):
        add_cosignatures(NOTE, line.line, [W1.verifier])


@pytest.mark.parametrize("answer", [b"", b"\n", b"x\n", b"\xe2\x80\x94 a\n", cosign(NOTE, W1, AT).line[:-1]])
def test_an_answer_that_is_no_signature_lines_is_refused(answer):
    with pytest.raises(NoteError):
        add_cosignatures(NOTE, answer, [W1.verifier])


# --- strictness ------------------------------------------------------------------------------------------------

HEAD, TAIL = NOTE.split(b"\n\n")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n", HEAD + b"\n", HEAD + b"\n" + TAIL, NOTE[:-1], NOTE + b"\n", NOTE + b"x", NOTE.replace(b"\n", b"\r\n"),
        HEAD + b"\n\n", HEAD + b"\n\n- " + TAIL[4:], HEAD + b"\n\n" + TAIL.replace(b" ", b"  "),
        HEAD + b"\n\n" + TAIL.replace(b"=\n", b"\n"), HEAD + b"\n\n\xe2\x80\x94 " + LOG.name.encode() + b" AAAA\n",
        HEAD + b"\n\n" + TAIL.replace(b"=\n", b"= \n"), b"\xff" + NOTE, b"a\x00b" + NOTE,
        HEAD + b"\n\n\xe2\x80\x94 a+b AAAAAAAA\n", HEAD + b"\n\n\xe2\x80\x94 a\xc2\xa0b AAAAAAAA\n",
        HEAD + b"\n\n\xe2\x80\x94 " + b"n" * 256 + b" AAAAAAAA\n",
    ],
    ids=range(19),
)  # fmt: skip
def test_what_is_not_exactly_a_note_is_refused(data):
    with pytest.raises(NoteError):
        Note.parse(data)


def test_base64_has_one_form_only():
    line = TAIL.decode().strip()
    name, value = line.removeprefix("— ").split(" ")
    assert value.endswith("=")
    loose = value[:-2] + chr(ord(value[-2]) + 1) + "="  # the same octets, other stray bits
    with pytest.raises(NoteError):
        Note.parse(HEAD + f"\n\n— {name} {loose}\n".encode())


def test_notes_have_a_largest_size_and_a_largest_number_of_signatures():
    line = b"\xe2\x80\x94 a AAAAAAAA\n"
    assert len(Note.parse(HEAD + b"\n\n" + line * MAX_SIGNATURES).signatures) == MAX_SIGNATURES >= 16
    with pytest.raises(NoteError):
        Note.parse(HEAD + b"\n\n" + line * (MAX_SIGNATURES + 1))
    with pytest.raises(NoteError):
        Note.parse(b"x" * MAX_NOTE + NOTE)


ROOT = POINT.encode().decode().split("\n")[2]


@pytest.mark.parametrize(
    "text",
    ["", "\n", "a\n1\n", f"a\n1\n{ROOT}", f"\n1\n{ROOT}\n", f"a\n01\n{ROOT}\n", f"a\n-1\n{ROOT}\n", f"a\n+1\n{ROOT}\n",
     f"a\n1_0\n{ROOT}\n", f"a\n 1\n{ROOT}\n", f"a\n١\n{ROOT}\n", f"a\n{1 << 63}\n{ROOT}\n", f"a\n{'9' * 5000}\n{ROOT}\n",
     f"a\n1\n{ROOT[:-1]}\n", "a\n1\nAAAA\n", f"a\n1\n{ROOT}\n\n", f"a\n1\n{ROOT}\n\nx\n", f"a\n1\n{ROOT} \n",
     f"a\n1\n{ROOT[:-2]}9=\n", f"a\tb\n1\n{ROOT}\n"],
    ids=range(20),
)  # fmt: skip
def test_what_is_not_exactly_a_checkpoint_is_refused(text):
    with pytest.raises(NoteError):
        Checkpoint.parse(text.encode())


ORIGINS = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(
    ORIGINS, st.integers(0, (1 << 63) - 1), st.binary(min_size=32, max_size=32), st.lists(ORIGINS, max_size=3)
)
def test_every_checkpoint_is_read_back(origin, size, top, extensions):
    point = Checkpoint(origin, size, top, tuple(extensions))
    assert Checkpoint.parse(point.encode()) == point


@pytest.mark.parametrize(
    "point",
    [replace(POINT, origin=""), replace(POINT, origin="a\nb"), replace(POINT, size=-1), replace(POINT, root=b"x"),
     replace(POINT, extensions=("",))],
    ids=["empty", "two-lines", "negative", "short", "empty-line"],
)  # fmt: skip
def test_what_could_not_be_read_back_is_not_signed(point):
    with pytest.raises(NoteError):
        sign_checkpoint(point, replace(LOG, name=point.origin or "x"))


def test_a_log_signs_under_its_origin_only_and_with_a_logs_key():
    for wrong in (signer("somebody.else"), signer(LOG.name, KeyKind.COSIGNATURE)):
        with pytest.raises(NoteError):
            sign_checkpoint(POINT, wrong)
    with pytest.raises(NoteError):
        cosign(SPEC_NOTE, W1, AT)


# --- keys ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KeyKind))
@given(name=ORIGINS, seed=st.binary(min_size=32, max_size=32))
def test_every_key_is_read_back(kind, name, seed):
    key = Ed25519PrivateKey.from_private_bytes(seed)
    try:
        made = NoteSigner(name, key, kind)
    except NoteError:
        assert any(char.isspace() or char == "+" for char in name)
        return
    assert NoteVerifier.parse(made.verifier.vkey) == made.verifier
    assert NoteSigner.parse(made.skey).verifier == made.verifier


@pytest.mark.parametrize(
    "vkey",
    ["", "a", "a+b", VKEY[:-1], VKEY + "=", VKEY.replace("c74f20a3", "c74f20a4"), VKEY.replace("c74f20a3", "C74F20A3"),
     VKEY.replace("Peter", "Pete"), VKEY.replace("+AR", "+AX"), VKEY.replace("+AR", "+BR"), VKEY.replace("c74f20a3", "c74f20"),
     "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "x" * 600 + VKEY, SKEY, f" {VKEY}", f"{VKEY}\n"],
    ids=range(16),
)  # fmt: skip
def test_what_is_not_exactly_a_public_key_is_refused(vkey):
    with pytest.raises(NoteError):
        NoteVerifier.parse(vkey)


@pytest.mark.parametrize("skey", ["", VKEY, SKEY[:-1], SKEY.replace("c74f20a3", "c74f20a4"), "PRIVATE+KEY+"])
def test_what_is_not_exactly_a_private_key_is_refused_and_not_repeated(skey):
    with pytest.raises(NoteError) as caught:
        NoteSigner.parse(skey)
    assert SKEY[-20:-4] not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\x01b", "a\u2003b", "n" * 256, "a\ud800"])
def test_names_that_would_break_the_lines_are_refused(name):
    with pytest.raises(NoteError):
        NoteVerifier(name, bytes(32))
    with pytest.raises(NoteError):
        signer(name)


def test_keys_of_another_length_are_refused():
    with pytest.raises(NoteError):
        NoteVerifier("a", bytes(31))


def test_times_are_asked_of_witnesses_only_and_have_a_zone():
    for make in (
        lambda: LOG.sign(b"x\n", AT),
        lambda: W1.sign(b"x\n"),
        lambda: W1.sign(b"x\n", AT.replace(tzinfo=None)),
        lambda: W1.sign(b"x\n", datetime(1969, 1, 1, tzinfo=UTC)),
    ):
        with pytest.raises(ValueError):
            make()
    there = AT.astimezone(timezone(timedelta(hours=3)))
    assert W1.sign(b"x\n", there) == W1.sign(b"x\n", AT)


def test_the_root_of_the_empty_tree_can_be_signed():
    assert (
        open_note(sign_checkpoint(Checkpoint(LOG.name, 0, empty_root()), LOG), [LOG.verifier]).checkpoint.size
        == 0
    )
