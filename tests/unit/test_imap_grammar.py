"""Commands: examples of the RFCs, and what is refused."""

from datetime import UTC, date, datetime

import pytest

from kephs.imap import commands as c
from kephs.imap import search_keys as k
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
    for wrong in ("()", "(WEIGHT)", "MESSAGES"):
        with pytest.raises(CommandError):
            body(f"STATUS x {wrong}")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("2", ((2, 2),)),
        ("2:4", ((2, 4),)),
        ("4:2", ((4, 2),)),
        ("*", ((k.STAR, k.STAR),)),
        ("2,4:7,9,12:*", ((2, 2), (4, 7), (9, 9), (12, k.STAR))),
        ("4294967295", ((4294967295, 4294967295),)),
    ],
)
def test_number_sets(text: str, numbers: k.NumberSet):
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
        "BODY[" + ".".join(["1"] * 33) + "]", "BODY[HEADER.FIELDS (a:b)]", "BINARY[TEXT]", "BINARY.SIZE[1]<0.1>", "BINARY", "PREVIEW[]", "()", "(FLAGS",
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
        k.And(
            (
                k.HasFlag("\\Flagged"),
                k.Received(k.Compare.SINCE, date(1994, 2, 1)),
                k.Not(k.InHeader("from", "Smith")),
            )
        ),
        uid=False,
    )
    assert body(b"UID SEARCH CHARSET UTF-8 TEXT {6}\r\n" + "şü".encode() + b"xy") == c.Search(
        k.InText("şüxy", header_too=True), uid=True
    )
    assert body(
        'SEARCH OR (UNSEEN 1:3) UID 7 HEADER X-A "" LARGER 5 SENTON "2-Mar-2026" UNKEYWORD k'
    ) == c.Search(
        k.And(
            (
                k.Or(
                    k.And((k.Not(k.HasFlag("\\Seen")), k.Numbers(((1, 3),), uid=False))),
                    k.Numbers(((7, 7),), uid=True),
                ),
                k.InHeader("x-a", ""),
                k.Size(k.Compare.LARGER, 5),
                k.Sent(k.Compare.ON, date(2026, 3, 2)),
                k.Not(k.HasFlag("k")),
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


def test_folder_commands_name_folders():
    assert body('CREATE "a/b"') == c.Create("a/b")
    assert body("DELETE Ar&AV8-iv") == c.Delete("Arşiv")
    assert body("RENAME a inbox/x") == c.Rename("a", "INBOX/x")
    assert body("SUBSCRIBE a") == c.Subscribe("a", on=True)
    assert body("UNSUBSCRIBE a") == c.Subscribe("a", on=False)
    assert body('GETQUOTA ""') == c.GetQuota("")
    assert body("GETQUOTAROOT inbox") == c.GetQuotaRoot("INBOX")
    assert body('SETQUOTA "" (STORAGE 1)') == c.SetQuota()
    for wrong in ("CREATE", "CREATE a b", "RENAME a", "GETQUOTA", "DELETE (a)"):
        with pytest.raises(CommandError):
            body(wrong)


def test_copy_and_move_name_messages_and_a_target():
    assert body("COPY 2:4 a") == c.Copy(((2, 4),), "a", uid=False, move=False)
    assert body("UID MOVE 1,* a") == c.Copy(((1, 1), (k.STAR, k.STAR)), "a", uid=True, move=True)


def test_enable_takes_names():
    assert body("ENABLE condstore X-GOOD") == c.Enable(frozenset({"CONDSTORE", "X-GOOD"}))
    with pytest.raises(CommandError):
        body("ENABLE")


def test_append_announces_its_message():
    at = datetime(1994, 2, 8, 5, 52, 25, tzinfo=UTC)
    assert body("APPEND a {310}") == c.Append("a", frozenset(), None, 310)
    assert body('APPEND a (\\Seen $x) " 7-Feb-1994 21:52:25 -0800" {310+}') == c.Append(
        "a", frozenset({"\\Seen", "$x"}), at, 310
    )
    assert body(b"APPEND {3}\r\na b ~{5}") == c.Append("a b", frozenset(), None, 5)
    for wrong in (
        "APPEND a",
        "APPEND a {3} x",
        'APPEND a "7-Feb-1994" {3}',
        'APPEND a "31-Feb-1994 21:52:25 -0800" {3}',
        'APPEND a "01-Jan-0001 00:00:00 +1400" {3}',
        "APPEND a (\\Recent) {3}",
        "APPEND a UTF8 (~{3}",
        "APPEND a x {3}",
    ):
        with pytest.raises(CommandError):
            body(wrong)


def test_after_enabling_utf8_names_are_utf8_and_messages_may_say_so():
    assert parse('a CREATE "a&AV8-ş"'.encode(), utf8=True).body == c.Create("a&AV8-ş")
    assert parse(b"a APPEND x UTF8 (~{5}", utf8=True).body == c.Append("x", frozenset(), None, 5, utf8=True)
    with pytest.raises(CommandError):
        parse(b"a SEARCH CHARSET UTF-8 ALL", utf8=True)


def test_modification_numbers_in_every_command_that_takes_them():
    assert body("SELECT a (CONDSTORE)") == c.Select("a", read_only=False, condstore=True)
    fetch = body("UID FETCH 1:* (FLAGS MODSEQ) (CHANGEDSINCE 12345)")
    assert isinstance(fetch, c.Fetch)
    assert fetch.changed_since == 12345
    assert [one.kind for one in fetch.items] == [c.ItemKind.FLAGS, c.ItemKind.MODSEQ]
    store = body("STORE 1 (UNCHANGEDSINCE 0) +FLAGS.SILENT (\\Seen)")
    assert isinstance(store, c.Store)
    assert store.unchanged_since == 0
    found = body('SEARCH MODSEQ "/flags/\\\\draft" all 620162338 SEEN')
    assert isinstance(found, c.Search)
    assert found.modseq
    assert found.key == k.And((k.Changed(620162338), k.HasFlag("\\Seen")))
    for wrong in (
        "SELECT a (QRESYNC)",
        "SELECT a ()",
        "FETCH 1 FLAGS (CHANGEDSINCE)",
        "FETCH 1 FLAGS (VANISHED)",
        f"FETCH 1 FLAGS (CHANGEDSINCE {2**63})",
        "STORE 1 (X 1) FLAGS ()",
        "SEARCH MODSEQ x",
    ):
        with pytest.raises(CommandError):
            body(wrong)


def test_a_search_can_say_what_it_wants_back():
    everything = frozenset(c.SearchReturn)
    assert body("SEARCH RETURN (MIN MAX ALL COUNT) ALL") == c.Search(k.All(), uid=False, returns=everything)
    assert body("UID SEARCH RETURN () ALL") == c.Search(
        k.All(), uid=True, returns=frozenset({c.SearchReturn.ALL})
    )
    with pytest.raises(CommandError):
        body("SEARCH RETURN (SAVE) ALL")


@pytest.mark.parametrize(
    ("text", "kind", "peek", "label"),
    [
        ("BINARY[1]", c.ItemKind.BINARY, False, b"BINARY[1]"),
        ("BINARY.PEEK[1]", c.ItemKind.BINARY, True, b"BINARY[1]"),
        ("BINARY.SIZE[1]", c.ItemKind.BINARY_SIZE, True, b"BINARY.SIZE[1]"),
    ],
)
def test_binary_items(text: str, kind: c.ItemKind, peek: bool, label: bytes):
    section = c.Section((1,), c.SectionText.ALL)
    assert item(text) == c.FetchItem(kind, section, peek, label)


def test_a_preview_may_be_lazy():
    assert item("PREVIEW") == c.FetchItem(c.ItemKind.PREVIEW, label=b"PREVIEW")
    assert item("(PREVIEW (LAZY))") == c.FetchItem(c.ItemKind.PREVIEW, label=b"PREVIEW", lazy=True)


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
