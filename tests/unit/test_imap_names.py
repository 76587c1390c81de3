"""Mailbox names and list patterns."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kephs.domain.mailboxes import Folder, FolderRole
from kephs.imap import mutf7
from kephs.imap.commands import Listing, ListSelection
from kephs.imap.listing import listed, matches


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("Arşiv", b"Ar&AV8-iv"),
        ("Çöp", b"&AMcA9g-p"),
        ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
        ("a&b", b"a&-b"),
        ("😀", b"&2D3eAA-"),
    ],
)
def test_modified_utf7_as_rfc_3501_shows_it(name: str, wire: bytes):
    assert mutf7.encode(name) == wire
    assert mutf7.decode(wire) == name


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=40))
def test_names_come_back(name: str):
    name = unicodedata.normalize("NFC", name)
    if name.upper() != "INBOX":
        assert mutf7.decode(mutf7.encode(name)) == name


@given(st.binary(max_size=40))
def test_any_bytes_are_a_name_or_refused(data: bytes):
    try:
        name = mutf7.decode(data)
    except mutf7.MailboxNameError:
        return
    assert all(char >= " " for char in name)


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("*", "a/b", True),
        ("%", "a/b", False),
        ("%", "a", True),
        ("a/%", "a/b", True),
        ("a/%", "a/b/c", False),
        ("a/*", "a/b/c", True),
        ("%/b", "a/b", True),
        ("inbox", "INBOX", True),
        ("in%", "INBOX", True),
        ("giden", "Giden", False),
        ("", "a", False),
        ("%*%", "a/b", True),
        ("*b*", "abc", True),
        ("a%c", "a/c", False),
    ],
)
def test_wildcards(pattern: str, name: str, found: bool):
    assert matches(pattern, name) is found


@given(st.text("ab/%*", max_size=8), st.text("ab/", max_size=8))
def test_wildcards_mean_what_a_regular_expression_says(pattern: str, name: str):
    plain = "".join({"*": ".*", "%": "[^/]*"}.get(char, re.escape(char)) for char in pattern)
    assert matches(pattern, name) is (re.fullmatch(plain, name) is not None)


def test_matching_is_quick_whatever_the_pattern():
    assert not matches("*a" * 500, "a" * 1000)
    assert matches("*" * 1000, "a" * 1000)


def folder(name: str, role: FolderRole = FolderRole.PLAIN) -> Folder:
    return Folder(1, "a1", name, role, 1, 1, 1, 0, 0)


def lines(request: Listing, *names: str) -> list[bytes]:
    return [entry.line for entry in listed(request, [folder(name) for name in names])]


def test_levels_without_a_folder_cannot_be_selected():
    assert lines(Listing("", ("%",)), "INBOX", "a/b") == [
        b'* LIST (\\HasNoChildren) "/" INBOX\r\n',
        b'* LIST (\\Noselect \\HasChildren) "/" a\r\n',
    ]
    assert lines(Listing("", ("%",), lsub=True), "a/b") == [b'* LSUB (\\Noselect) "/" a\r\n']
    assert lines(Listing("", ("*",), extended=True), "a/b") == [
        b'* LIST (\\NonExistent \\HasChildren) "/" a\r\n',
        b'* LIST (\\HasNoChildren) "/" a/b\r\n',
    ]


def test_a_reference_stands_before_the_pattern():
    assert lines(Listing("a/", ("%",)), "a/b", "b") == [b'* LIST (\\HasNoChildren) "/" a/b\r\n']


def test_an_empty_pattern_asks_for_the_delimiter():
    assert lines(Listing("x", ("",)), "a") == [b'* LIST (\\Noselect) "/" ""\r\n']


def test_recursive_matches_name_the_levels_above():
    selection = frozenset({ListSelection.SUBSCRIBED, ListSelection.RECURSIVEMATCH})
    assert lines(Listing("", ("%",), selection, extended=True), "a/b") == [
        b'* LIST (\\NonExistent \\HasChildren) "/" a ("CHILDINFO" ("SUBSCRIBED"))\r\n'
    ]


def test_names_that_are_no_atoms_are_quoted():
    assert b'"/" "a b"\r\n' in lines(Listing("", ("*",)), "a b")[0]
    assert b'"/" "NIL"\r\n' in lines(Listing("", ("*",)), "NIL")[0]
    assert b'"/" "a(b"\r\n' in lines(Listing("", ("*",)), "a(b")[0]
