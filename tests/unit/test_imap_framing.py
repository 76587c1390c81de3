"""Lines, literals and their caps."""

from kephs.imap.framing import (
    AFTER_LOGIN,
    BEFORE_LOGIN,
    AppendBegins,
    AppendEnds,
    Broken,
    Event,
    FrameLimits,
    Framer,
    Piece,
    Received,
    WantsLiteral,
)


def events(framer: Framer, *pieces: bytes) -> list[Event]:
    found: list[Event] = []
    for piece in pieces:
        framer.feed(piece)
        while (event := framer.next_command()) is not None:
            found.append(event)
    return found


def test_pipelined_commands_come_out_in_order():
    assert events(Framer(BEFORE_LOGIN), b"a NOOP\r\nb NOO", b"P\r\n") == [
        Received(b"a NOOP"),
        Received(b"b NOOP"),
    ]


def test_a_synchronising_literal_is_asked_for():
    found = events(Framer(BEFORE_LOGIN), b"a LOGIN {3}\r\n", b"a\r\n {1}\r\n", b"b\r\n")
    assert found == [WantsLiteral(), WantsLiteral(), Received(b"a LOGIN {3}\r\na\r\n {1}\r\nb")]


def test_a_non_synchronising_literal_is_taken_without_asking():
    assert events(Framer(BEFORE_LOGIN), b"a LOGIN {2+}\r\nab x\r\n") == [Received(b"a LOGIN {2+}\r\nab x")]


def test_a_non_synchronising_literal_beyond_4096_is_refused_and_skipped():
    found = events(Framer(AFTER_LOGIN), b"a SELECT {4097+}\r\n" + b"x" * 4097 + b"\r\nb NOOP\r\n")
    assert found == [Broken(b"a", b"[TOOBIG] ", b"Literal too big", fatal=False), Received(b"b NOOP")]
    assert events(Framer(AFTER_LOGIN), b"a S {4096+}\r\n" + b"x" * 4096 + b"\r\n")[0] == Received(
        b"a S {4096+}\r\n" + b"x" * 4096
    )


def test_literals_after_a_skipped_one_are_skipped_too_and_never_read_as_commands():
    data = b"a S {5000+}\r\n" + b"x" * 5000 + b" {13+}\r\nz LOGOUT\r\n123\r\nb NOOP\r\n"
    assert events(Framer(AFTER_LOGIN), data)[1:] == [Received(b"b NOOP")]


def test_a_synchronising_literal_beyond_the_cap_is_never_asked_for():
    framer = Framer(AFTER_LOGIN)
    assert events(framer, b"a SELECT {1048577}\r\n") == [
        Broken(b"a", b"[TOOBIG] ", b"Literal too big", fatal=False)
    ]
    assert events(framer, b"b NOOP\r\n") == [Received(b"b NOOP")]


def test_before_login_a_big_literal_ends_the_connection():
    framer = Framer(BEFORE_LOGIN)
    assert events(framer, b"a LOGIN {9000+}\r\n")[-1].fatal
    assert events(framer, b"x" * 9000 + b"\r\nb NOOP\r\n") == []


def test_numbers_of_any_length_are_no_trap():
    assert events(Framer(AFTER_LOGIN), b"a S {" + b"9" * 6000 + b"+}\r\n")[-1].fatal
    assert not events(Framer(AFTER_LOGIN), b"a S {" + b"9" * 6000 + b"}\r\n")[-1].fatal


def test_the_literals_of_one_command_share_the_cap():
    framer = Framer(BEFORE_LOGIN)
    found = events(framer, b"a LOGIN {8000}\r\n", b"x" * 8000 + b" {193}\r\n")
    assert found == [WantsLiteral(), Broken(b"a", b"[TOOBIG] ", b"Literal too big", fatal=False)]


def test_a_line_beyond_the_cap_ends_the_connection_and_nothing_more_is_held():
    framer = Framer(FrameLimits(line=10, literal=10, skip=0))
    assert events(framer, b"a 12345678\r\n") == [Received(b"a 12345678")]
    assert events(framer, b"a 123456789") == [Broken(b"*", b"", b"Line too long", fatal=True)]
    assert events(framer, b"\r\nb NOOP\r\n") == []


def test_the_message_of_an_append_is_asked_about_and_comes_in_pieces():
    framer = Framer(AFTER_LOGIN)
    assert events(framer, b"a append Giden {10}\r\n", b"") == [
        AppendBegins(b"a append Giden {10}", sync=True)
    ]
    framer.accept()
    assert events(framer, b"01234", b"56", b"789\r", b"\nb NOOP\r\n") == [
        Piece(b"01234"), Piece(b"56"), Piece(b"789"), AppendEnds(b""), Received(b"b NOOP"),
    ]  # fmt: skip


def test_a_message_that_is_declined_is_not_waited_for_or_passed_over():
    framer = Framer(AFTER_LOGIN)
    assert len(events(framer, b"a APPEND Giden {99999999}\r\n")) == 1
    framer.decline()
    assert events(framer, b"b NOOP\r\n") == [Received(b"b NOOP")]
    assert events(framer, b"c APPEND x {7+}\r\n") == [AppendBegins(b"c APPEND x {7+}", sync=False)]
    framer.decline()
    assert events(framer, b"z LOGOU {2+}\r\nxx\r\nb NOOP\r\n") == [Received(b"b NOOP")]


def test_the_name_of_an_append_may_be_a_literal_too():
    framer = Framer(AFTER_LOGIN)
    found = events(framer, b"a APPEND {3}\r\n", b"a b (\\Seen) ~{4+}\r\n")
    assert found == [WantsLiteral(), AppendBegins(b"a APPEND {3}\r\na b (\\Seen) ~{4+}", sync=False)]


def test_a_message_without_being_asked_for_has_the_cap_of_literal_minus():
    found = events(Framer(AFTER_LOGIN), b"a APPEND x {4097+}\r\n" + b"x" * 4097 + b"\r\nb NOOP\r\n")
    assert found == [Broken(b"a", b"[TOOBIG] ", b"Literal too big", fatal=False), Received(b"b NOOP")]


def test_a_second_message_is_passed_over_and_told():
    framer = Framer(AFTER_LOGIN)
    events(framer, b"a APPEND x {1}\r\n")
    framer.accept()
    found = events(framer, b"1 {6+}\r\nz LOGO\r\nb NOOP\r\n")
    assert found == [Piece(b"1"), AppendEnds(b" {6+}"), Received(b"b NOOP")]


def test_an_empty_message_ends_at_once():
    framer = Framer(AFTER_LOGIN)
    events(framer, b"a APPEND x {0}\r\n")
    framer.accept()
    assert events(framer, b"\r\n") == [AppendEnds(b"")]


def test_a_bare_line_feed_ends_nothing():
    assert events(Framer(BEFORE_LOGIN), b"a NOOP\nb NOOP\r\n") == [Received(b"a NOOP\nb NOOP")]


def test_answers_to_a_plus_are_plain_lines():
    framer = Framer(BEFORE_LOGIN)
    framer.feed(b"AGEAYg=={3}\r\na NO")
    assert framer.next_line() == b"AGEAYg=={3}"
    assert framer.next_line() is None
    framer.feed(b"OP\r\n")
    assert framer.next_command() == Received(b"a NOOP")
