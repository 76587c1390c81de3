"""FETCH over generated messages: every numbered section equals the bytes it was built from."""

import re
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from evidence.mail.mime import scan
from evidence.ports import BytesSource
from kephs.imap.commands import Fetch
from kephs.imap.grammar import parse
from kephs.imap.render import structure
from kephs.imap.sections import FilteredHeader, locate
from tests.support.imap_world import build_world

TEXT = st.lists(st.text("abcş .-=", max_size=12).map(str.encode), max_size=4).map(b"\r\n".join)
EXTRA = st.sampled_from(
    [b"", b"Subject: konu\r\n", b"X-Fold: a\r\n b\r\n", "To: Ayşe <a@b.example>\r\n".encode()]
)


@dataclass
class Leaf:
    extra: bytes
    text: bytes


@dataclass
class Multi:
    extra: bytes
    children: list
    preamble: bytes


@dataclass
class Embedded:
    extra: bytes
    message: object


TREES = st.recursive(
    st.builds(Leaf, EXTRA, TEXT),
    lambda inner: (
        st.builds(Multi, EXTRA, st.lists(inner, min_size=1, max_size=3), st.sampled_from([b"", b"pre\r\n"]))
        | st.builds(Embedded, EXTRA, inner)
    ),
    max_leaves=6,
)


def build(
    tree, wanted: dict[str, bytes], prefix: str, number: list[int], *, message: bool
) -> tuple[bytes, bytes]:
    """Return header and body, and note what each section must be.

    ``prefix`` is the entity's own part number ("" for the root) and ``message`` whether it begins a message.
    """
    number[0] += 1
    inner = f"{prefix}." if prefix else ""
    if isinstance(tree, Leaf):
        header = tree.extra + b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
        body = tree.text
        if message:
            wanted[f"{inner}1"] = body
    elif isinstance(tree, Embedded):
        header = tree.extra + b"Content-Type: message/rfc822\r\n\r\n"
        own = f"{inner}1" if message else prefix
        inside_header, inside = build(tree.message, wanted, own, number, message=True)
        body = inside_header + inside
        wanted[f"{own}.HEADER"] = inside_header
        wanted[f"{own}.TEXT"] = inside
        if message:
            wanted[own] = body
    else:
        boundary = b"b%d" % number[0]
        header = tree.extra + b"Content-Type: multipart/mixed; boundary=%b\r\n\r\n" % boundary
        body = tree.preamble
        for position, child in enumerate(tree.children, 1):
            own = f"{inner}{position}"
            child_header, child_body = build(child, wanted, own, number, message=False)
            wanted[own] = child_body
            wanted[f"{own}.MIME"] = child_header
            body += b"--%b\r\n%b%b\r\n" % (boundary, child_header, child_body)
        body += b"--%b--\r\n" % boundary
    return header, body


@settings(max_examples=150)
@given(TREES)
def test_every_numbered_section_is_what_the_message_was_built_from(tree):
    wanted: dict[str, bytes] = {}
    header, body = build(tree, wanted, "", [0], message=True)
    data = header + body
    wanted |= {"": data, "HEADER": header, "TEXT": body}
    root = scan(BytesSource(data))
    for path, value in wanted.items():
        command = parse(b"a FETCH 1 BODY.PEEK[%b]" % path.encode()).body
        assert isinstance(command, Fetch)
        section = command.items[0].section
        assert section is not None
        found = locate(root, section)
        assert found is not None, path
        assert not isinstance(found, FilteredHeader)
        assert data[found.start : found.end] == value, path


@settings(max_examples=30)
@given(TREES, st.integers(0, 60), st.integers(1, 60))
async def test_partials_over_a_session_are_slices(tree, origin: int, length: int):
    wanted: dict[str, bytes] = {}
    header, body = build(tree, wanted, "", [0], message=True)
    world = await build_world()
    await world.file(header + body, gated=True)
    client = await world.client()
    for path, value in wanted.items():
        answer = await client.say(f"FETCH 1 BODY.PEEK[{path}]<{origin}.{length}>")
        part = value[origin : origin + length]
        assert b"BODY[%b]<%d> {%d}\r\n%b)\r\n" % (path.encode(), origin, len(part), part) in answer


@settings(max_examples=100)
@given(TREES)
def test_a_structure_is_one_balanced_list_and_names_every_part(tree):
    header, body = build(tree, {}, "", [0], message=True)
    shown = structure(scan(BytesSource(header + body)), extended=True)
    bare = re.sub(rb'"(?:[^"\\]|\\.)*"|\{\d+\}\r\n', b"", shown)
    depth = 0
    for char in bare.decode("latin-1"):
        depth += (char == "(") - (char == ")")
        assert depth >= 0
    assert depth == 0
    assert shown.count(b'"text" "plain"') == _leaves(tree)


def _leaves(tree) -> int:
    if isinstance(tree, Leaf):
        return 1
    return (
        _leaves(tree.message)
        if isinstance(tree, Embedded)
        else sum(_leaves(child) for child in tree.children)
    )
