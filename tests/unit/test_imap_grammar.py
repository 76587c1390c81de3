"""Commands: examples of the RFCs, and what is refused."""

from datetime import date

import pytest

from kephs.imap import commands as c
from kephs.imap.grammar import CommandError, SearchCharsetError, parse
from kephs.imap.search_grammar import DEPTH_MAX, KEYS_MAX

FLAGS = c.FetchItem(c.ItemKind.FLAGS, label=b"FLAGS")


def body(text: str | bytes) -> c.Body:
    data = text if isinstance(text, bytes) else text.encode()
    return parse(b"A1 " + data).body


def item(text: str) -> c.FetchItem:
    fetch = body(f"FETCH 1 {text}")
    assert isinstance(fetch, c.Fetch)
    [only] = fetch.items
    return only


@pytest.mark.parametrize("verb", list(c.Verb))
def test_commands_without_arguments_take_none(verb: c.Verb):
    assert body(verb.value.lower()) == c.Bare(verb)
    with pytest.raises(CommandError):
        body(verb.value + " x")


def test_login_takes_atoms_quoted_strings_and_literals():
    assert body("LOGIN SMITH SESAME") == c.Login("SMITH", "SESAME")
    assert body(r'LOGIN "a\"b" "c\\d"') == c.Login('a"b', "c\\d")
    assert body(b"LOGIN {11}\r\nFRED FOOBAR {7+}\r\nfat man") == c.Login("FRED FOOBAR", "fat man")
    assert body('LOGIN "ayşe" "ş"') == c.Login("ayşe", "ş")


def test_passwords_never_show_in_representations():
    assert "SESAME" not in repr(body("LOGIN SMITH SESAME"))
    assert "secret" not in repr(body("AUTHENTICATE PLAIN AHNlY3JldABzZWNyZXQ="))


def test_authenticate_reads_the_initial_response():
    assert body("AUTHENTICATE plain") == c.Authenticate("PLAIN", None)
    assert body("AUTHENTICATE PLAIN =") == c.Authenticate("PLAIN", b"")
    assert body("AUTHENTICATE PLAIN AGEAYg==") == c.Authenticate("PLAIN", b"\0a\0b")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("inbox", "INBOX"),
        ('"InBoX"', "INBOX"),
        ("Ar&AV8-iv", "Arşiv"),
        ('"&AMcA9g-p"', "Çöp"),
        ("Giden", "Giden"),
        ('"a b"', "a b"),
        ("&-", "&"),
    ],
)
def test_mailbox_names_are_modified_utf7_and_inbox_has_no_case(text: str, name: str):
    assert body(f"SELECT {text}") == c.Select(name, read_only=False)
    assert body(f"EXAMINE {text}") == c.Select(name, read_only=True)


@pytest.mark.parametrize("text", ["&AV8", '"&*-"', '"a&b"', b'"a\x01"', b'"\xff"', "&A-"])
def test_broken_mailbox_names_are_refused(text):
    with pytest.raises(CommandError):
        body(b"SELECT " + (text if isinstance(text, bytes) else text.encode()))


def test_id_takes_nil_or_pairs():
    assert body("ID NIL") == c.Identify()
    assert body('ID ("name" "sodr" "version" NIL)') == c.Identify()


def test_list_in_its_old_form():
    assert body('LIST "" *') == c.Listing("", ("*",))
    assert body("LIST ~/Mail/ %") == c.Listing("~/Mail/", ("%",))
    assert body('LSUB "#news." "comp.mail.*"') == c.Listing("#news.", ("comp.mail.*",), lsub=True)


def test_list_in_its_extended_form():
    assert body(
        'LIST (SUBSCRIBED REMOTE) "" ("a" b%) RETURN (CHILDREN STATUS (MESSAGES UNSEEN))'
    ) == c.Listing(
        "",
        ("a", "b%"),
        frozenset({c.ListSelection.SUBSCRIBED, c.ListSelection.REMOTE}),
        frozenset({c.ListReturn.CHILDREN, c.ListReturn.STATUS}),
        (c.StatusItem.MESSAGES, c.StatusItem.UNSEEN),
        extended=True,
    )
    assert body('LIST "" "*" RETURN (SPECIAL-USE)') == c.Listing(
        "", ("*",), returns=frozenset({c.ListReturn.SPECIAL_USE}), extended=True
    )
    for wrong in ('(RECURSIVEMATCH) "" "*"', '(NONSENSE) "" "*"', '"" ()', '"" "*" RETURN (STATUS ())'):
        with pytest.raises(CommandError):
            body(f"LIST {wrong}")


def test_status_needs_items():
    items = (c.StatusItem.UIDNEXT, c.StatusItem.MESSAGES)
    assert body("STATUS blurdybloop (UIDNEXT MESSAGES)") == c.Status("blurdybloop", items)
    for wrong in ("()", "(SIZE)", "MESSAGES"):
        with pytest.raises(CommandError):
            body(f"STATUS x {wrong}")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("2", ((2, 2),)),
        ("2:4", ((2, 4),)),
        ("4:2", ((4, 2),)),
        ("*", ((c.STAR, c.STAR),)),
        ("2,4:7,9,12:*", ((2, 2), (4, 7), (9, 9), (12, c.STAR))),
        ("4294967295", ((4294967295, 4294967295),)),
    ],
)
def test_number_sets(text: str, numbers: c.NumberSet):
    assert body(f"UID FETCH {text} FLAGS") == c.Fetch(numbers, (FLAGS,), uid=True)


@pytest.mark.parametrize("text", ["0", "1:0", "4294967296", "99999999999999", "1,", ",1", "1:", "a", "1:2:3"])
def test_what_is_no_number_set_is_refused(text: str):
    with pytest.raises(CommandError):
        body(f"FETCH {text} FLAGS")


def test_macros_stand_for_their_items():
    kinds = {
        "FAST": ["FLAGS", "INTERNALDATE", "RFC822.SIZE"],
        "ALL": ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"],
        "FULL": ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"],
    }
    for macro, names in kinds.items():
        fetch = body(f"FETCH 1 {macro}")
        assert isinstance(fetch, c.Fetch)
        assert [one.kind.value for one in fetch.items] == names
        with pytest.raises(CommandError):
            body(f"FETCH 1 ({macro})")


@pytest.mark.parametrize(
    ("text", "section", "peek", "label"),
    [
        ("BODY[]", c.Section((), c.SectionText.ALL), False, b"BODY[]"),
        ("body.peek[text]", c.Section((), c.SectionText.TEXT), True, b"BODY[TEXT]"),
        ("BODY[4.2.HEADER]", c.Section((4, 2), c.SectionText.HEADER), False, b"BODY[4.2.HEADER]"),
        ("BODY[1.MIME]", c.Section((1,), c.SectionText.MIME), False, b"BODY[1.MIME]"),
        (
            "BODY[4.1.2]<5.100>",
            c.Section((4, 1, 2), c.SectionText.ALL, partial=(5, 100)),
            False,
            b"BODY[4.1.2]",
        ),
        ("RFC822", c.Section((), c.SectionText.ALL), False, b"RFC822"),
        ("RFC822.HEADER", c.Section((), c.SectionText.HEADER), True, b"RFC822.HEADER"),
        ("RFC822.TEXT", c.Section((), c.SectionText.TEXT), False, b"RFC822.TEXT"),
        (
            'BODY.PEEK[HEADER.FIELDS (Date "From")]',
            c.Section((), c.SectionText.HEADER_FIELDS, ("date", "from")),
            True,
            b"BODY[HEADER.FIELDS (Date From)]",
        ),
        (
            "BODY[2.HEADER.FIELDS.NOT (X-A)]<0.1>",
            c.Section((2,), c.SectionText.HEADER_FIELDS_NOT, ("x-a",), (0, 1)),
            False,
            b"BODY[2.HEADER.FIELDS.NOT (X-A)]",
        ),
    ],
)
def test_sections(text: str, section: c.Section, peek: bool, label: bytes):
    assert item(text) == c.FetchItem(c.ItemKind.SECTION, section, peek, label)


@pytest.mark.parametrize(
    "text",
    [
        "BODY[0]", "BODY[1.]", "BODY[.1]", "BODY[MIME]", "BODY[1.2.]", "BODY[HEADER.FIELDS]",
        "BODY[HEADER.FIELDS ()]", "BODY[]<1>", "BODY[]<1.0>", "BODY[]<1.2", "BODY[TEXT.1]", "BODY[1x]",
        "BODY[" + ".".join(["1"] * 33) + "]", "BODY[HEADER.FIELDS (a:b)]", "BINARY[1]", "PREVIEW", "()", "(FLAGS",
        "(FLAGS ) ", "NONSENSE", "BODY[]<0.99999999999>", "RFC822[]",
    ],
)  # fmt: skip
def test_what_is_no_item_is_refused(text: str):
    with pytest.raises(CommandError):
        body(f"FETCH 1 {text}")


def test_store_in_all_its_forms():
    seen = frozenset({"\\Seen"})
    assert body("STORE 2:4 +FLAGS (\\Deleted)") == c.Store(
        ((2, 4),), c.StoreMode.ADD, silent=False, flags=frozenset({"\\Deleted"}), uid=False
    )
    assert body("UID STORE 1 -flags.silent \\seen") == c.Store(
        ((1, 1),), c.StoreMode.REMOVE, silent=True, flags=seen, uid=True
    )
    assert body("STORE 1 FLAGS ()") == c.Store(
        ((1, 1),), c.StoreMode.REPLACE, silent=False, flags=frozenset(), uid=False
    )
    assert body("STORE 1 FLAGS \\SEEN $Forwarded") == c.Store(
        ((1, 1),), c.StoreMode.REPLACE, silent=False, flags=seen | {"$Forwarded"}, uid=False
    )
    for wrong in ("\\Recent", "\\Nonsense", "(a", "a{b", "x" * 65):
        with pytest.raises(CommandError):
            body(f"STORE 1 FLAGS {wrong}")


def test_search_keys_of_rfc_3501():
    assert body('SEARCH FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"') == c.Search(
        c.And(
            (
                c.HasFlag("\\Flagged"),
                c.Received(c.Compare.SINCE, date(1994, 2, 1)),
                c.Not(c.InHeader("from", "Smith")),
            )
        ),
        uid=False,
    )
    assert body(b"UID SEARCH CHARSET UTF-8 TEXT {6}\r\n" + "şü".encode() + b"xy") == c.Search(
        c.InText("şüxy", header_too=True), uid=True
    )
    assert body(
        'SEARCH OR (UNSEEN 1:3) UID 7 HEADER X-A "" LARGER 5 SENTON "2-Mar-2026" UNKEYWORD k'
    ) == c.Search(
        c.And(
            (
                c.Or(
                    c.And((c.Not(c.HasFlag("\\Seen")), c.Numbers(((1, 3),), uid=False))),
                    c.Numbers(((7, 7),), uid=True),
                ),
                c.InHeader("x-a", ""),
                c.Size(c.Compare.LARGER, 5),
                c.Sent(c.Compare.ON, date(2026, 3, 2)),
                c.Not(c.HasFlag("k")),
            )
        ),
        uid=False,
    )


def test_a_search_in_an_unknown_character_set_is_a_no_not_a_bad():
    with pytest.raises(SearchCharsetError) as caught:
        body("SEARCH CHARSET KOI8-R TEXT x")
    assert caught.value.tag == b"A1"


def test_search_nesting_and_number_of_keys_are_capped():
    deep = "NOT " * (DEPTH_MAX - 1) + "ALL"
    assert body(f"SEARCH {deep}")
    for wrong in (
        "NOT " * (DEPTH_MAX + 1) + "ALL",
        "(" * (DEPTH_MAX + 2) + "ALL" + ")" * (DEPTH_MAX + 2),
        " ".join(["ALL"] * (KEYS_MAX + 1)),
        "OR ALL",
        "SINCE 31-Feb-2026",
        "()",
        "",
    ):
        with pytest.raises(CommandError):
            body(f"SEARCH {wrong}")


@pytest.mark.parametrize(
    "verb", ["CREATE x", "DELETE x", "RENAME a b", "COPY 1 x", "UID MOVE 1 x", "APPEND x {3}"]
)
def test_commands_of_later_are_known(verb: str):
    assert isinstance(body(verb), c.Unoffered)


@pytest.mark.parametrize(
    "data",
    [b"", b"A1", b"A1 ", b" NOOP", b"+ NOOP", b"A1 NOOP\0", b"A1  NOOP", b"A1 LOGIN a {3}\r\nb\0c", b"A1 UID NOOP",
     b'A1 LOGIN "a\0" b', b"A1 LOGIN a {9}\r\nb", b"* OK", b"A(1 NOOP"],
)  # fmt: skip
def test_what_is_no_command_is_refused_by_name(data: bytes):
    with pytest.raises(CommandError) as caught:
        parse(data)
    assert caught.value.tag in (b"A1", b"*")
    assert str(caught.value).isascii()
