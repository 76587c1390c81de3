"""The provider register's JSON: what it says, and everything that is refused."""

import contextlib
import copy
import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory.addresses import KepAddress
from directory.provider_changes import ChangeKind, changes_between
from directory.provider_file import MAX_FILE, MIB, ProviderFileError, parse_provider_file
from directory.providers import Profile, Served

AT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
OLD, NEW = "2026-01-01T00:00:00Z", "2028-01-01T00:00:00Z"


def der(text: str) -> bytes:
    """Return the shape of a certificate: a SEQUENCE in a SEQUENCE."""
    body = text.encode().ljust(130, b".")
    inner = b"\x30\x81" + bytes((len(body),)) + body
    return b"\x30\x81" + bytes((len(inner),)) + inner


def listed(text: str, start: str = OLD, end: str = NEW) -> dict[str, Any]:
    return {"certificate": b64encode(der(text)).decode(), "valid_from": start, "valid_until": end}


def provider(domain: str = "hs92.kep.tr", **changed) -> dict[str, Any]:
    return {
        "domain": domain,
        "name": "Örnek KEP A.Ş.",
        "service_address": f"kep-hizmet@{domain}",
        "smtp": {"host": "127.0.0.1", "port": 2525},
        "tls_certificates": [listed(f"tls {domain}")],
        "transaction_certificates": [listed(f"seal {domain}")],
        "max_message_mib": 25,
        "profile": "kep-ts102640",
        "since": OLD,
        "until": None,
    } | changed


def register(*providers: dict[str, Any], **changed) -> dict[str, Any]:
    return {
        "version": 1,
        "sequence": 7,
        "issued_at": "2026-11-20T09:00:00Z",
        "next_update": "2026-11-27T09:00:00Z",
        "providers": list(providers),
    } | changed


def parsed(value: object, **more):
    return parse_provider_file(json.dumps(value).encode(), **more)


def test_a_register_says_who_the_peers_are():
    file = parsed(register(provider(), provider("hs93.kep.tr", profile="rem-baseline")))
    assert (file.sequence, file.issued_at) == (7, datetime(2026, 11, 20, 9, tzinfo=UTC))
    peers = file.register_at(AT, own="hs91.kep.tr").peers
    peer = peers["hs92.kep.tr"]
    assert (peer.name, peer.service_address) == ("Örnek KEP A.Ş.", "kep-hizmet@hs92.kep.tr")
    assert (peer.host, peer.port, peer.max_message) == ("127.0.0.1", 2525, 25 * MIB)
    assert peer.tls_pins == {sha256(der("tls hs92.kep.tr")).digest()}
    assert peers["hs93.kep.tr"].profile is Profile.REM_BASELINE
    found = file.register_at(AT, own="hs91.kep.tr").sealed_by(sha256(der("seal hs93.kep.tr")).digest())
    assert found is not None
    assert found[0].domain == "hs93.kep.tr"


def test_a_tls_certificate_may_be_given_by_its_digest():
    pin = {"sha256": "ab" * 32, "valid_from": OLD, "valid_until": NEW}
    file = parsed(register(provider(tls_certificates=[pin])))
    assert file.entries[0].peer_at(AT).tls_pins == {b"\xab" * 32}


def test_in_a_roll_over_both_pins_count_and_before_and_after_it_one():
    until = listed("old", OLD, "2026-11-21T09:00:00Z")
    then = listed("new", "2026-11-20T09:00:00Z", NEW)
    entry = parsed(register(provider(tls_certificates=[until, then]))).entries[0]
    old, new = (sha256(der(name)).digest() for name in ("old", "new"))
    assert entry.peer_at(AT - timedelta(days=2)).tls_pins == {old}
    assert entry.peer_at(AT).tls_pins == {old, new}  # the last second of the old one
    assert entry.peer_at(AT + timedelta(seconds=1)).tls_pins == {new}


def test_a_retired_transaction_certificate_stays_known_with_its_end():
    retired = listed("retired", "2020-01-01T00:00:00Z", "2023-01-01T00:00:00Z")
    peer = (
        parsed(register(provider(transaction_certificates=[retired, listed("now")]))).entries[0].peer_at(AT)
    )
    certificate = peer.sealing(sha256(der("retired")).digest())
    assert certificate is not None
    assert not certificate.valid_at(AT)
    assert certificate.valid_at(datetime(2022, 1, 1, tzinfo=UTC))


def test_a_provider_is_a_peer_from_since_on_and_until_its_end():
    file = parsed(register(provider(since="2026-11-21T09:00:00Z", until="2026-11-22T09:00:00Z")))
    for at, expected in (
        (AT - timedelta(seconds=1), Served.NOWHERE),
        (AT, Served.PEER),
        (AT + timedelta(days=1, seconds=-1), Served.PEER),
        (AT + timedelta(days=1), Served.NOWHERE),
    ):
        known = file.register_at(at, own="hs91.kep.tr")
        assert known.served(KepAddress.parse("mehmet@hs92.kep.tr")) is expected


def test_the_own_domain_is_no_peer():
    file = parsed(register(provider("hs91.kep.tr"), provider()))
    assert set(file.register_at(AT, own="hs91.kep.tr").peers) == {"hs92.kep.tr"}
    assert file.entry("hs91.kep.tr") is not None


def test_the_next_change_is_the_next_moment_at_which_something_differs():
    old = listed("old", OLD, "2026-11-22T09:00:00Z")
    file = parsed(register(provider(tls_certificates=[old, listed("new")], until="2026-11-25T09:00:00Z")))
    first = file.next_change(AT)
    assert first is not None
    assert file.register_at(first - timedelta(microseconds=1), own="x") == file.register_at(AT, own="x")
    assert file.register_at(first, own="x") != file.register_at(AT, own="x")
    second = file.next_change(first)
    assert second == datetime(2026, 11, 25, 9, tzinfo=UTC)
    assert file.next_change(second) == file.next_update
    assert file.stale_at(file.next_update)
    assert not file.stale_at(file.next_update - timedelta(microseconds=1))
    assert file.next_change(datetime(2030, 1, 1, tzinfo=UTC)) is None


def test_an_empty_list_of_providers_is_a_register():
    assert parsed(register()).entries == ()


def test_another_suffix_is_the_instances_setting():
    file = parsed(register(provider("hs92.kep.example")), suffix="kep.example")
    assert file.entries[0].domain == "hs92.kep.example"


# ------------------------------------------------------------------ refused

_WRONG: dict[str, tuple[str, object, str]] = {
    "another version": ("version", 2, "version"),
    "sequence of zero": ("sequence", 0, "sequence"),
    "sequence as text": ("sequence", "7", "sequence"),
    "sequence as truth": ("sequence", True, "sequence"),
    "sequence beyond exact numbers": ("sequence", 1 << 53, "sequence"),
    "time without zone": ("issued_at", "2026-11-20T09:00:00", "issued_at"),
    "time of another zone": ("issued_at", "2026-11-20T09:00:00+03:00", "issued_at"),
    "no such day": ("issued_at", "2026-02-30T09:00:00Z", "issued_at"),
    "digits of another script": ("issued_at", "２026-11-20T09:00:00Z", "issued_at"),
    "next update at issue": ("next_update", "2026-11-20T09:00:00Z", "next_update"),
    "unknown key": ("comment", "hello", "comment: unknown key"),
    "providers as object": ("providers", {}, "providers"),
    "too many providers": ("providers", [provider()] * 101, "providers"),
    "a provider that is a text": ("providers", ["hs92.kep.tr"], r"providers\[0\]"),
}


@pytest.mark.parametrize("name", _WRONG)
def test_a_wrong_value_at_the_top_is_refused_by_its_place(name):
    key, value, place = _WRONG[name]
    with pytest.raises(ProviderFileError, match=place):
        parsed(register(provider(), **{key: value}))


_WRONG_PROVIDER: dict[str, dict[str, Any]] = {
    "no KEP domain": {"domain": "hs92.example.com"},
    "a holder's subdomain": {"domain": "firma.hs92.kep.tr"},
    "a domain in capitals": {"domain": "HS92.kep.tr"},
    "no provider's number": {"domain": "hsxx.kep.tr"},
    "an empty name": {"name": ""},
    "a name with a line end": {"name": "a\nb"},
    "a name of half a character": {"name": "a\ud800"},
    "a very long name": {"name": "a" * 201},
    "a service address elsewhere": {"service_address": "kep-hizmet@hs93.kep.tr"},
    "a service address without local part": {"service_address": "@hs92.kep.tr"},
    "a service address with a command": {"service_address": "a>\r\nRCPT@hs92.kep.tr"},
    "no port": {"smtp": {"host": "127.0.0.1"}},
    "port zero": {"smtp": {"host": "127.0.0.1", "port": 0}},
    "port too high": {"smtp": {"host": "127.0.0.1", "port": 65536}},
    "an unknown key in smtp": {"smtp": {"host": "127.0.0.1", "port": 25, "tls": False}},
    "a host with blanks": {"smtp": {"host": "a b", "port": 25}},
    "a host with a path": {"smtp": {"host": "a/b", "port": 25}},
    "a broken IP address": {"smtp": {"host": "127.0.0.256", "port": 25}},
    "a host with an empty label": {"smtp": {"host": "mx..kep.tr", "port": 25}},
    "no TLS certificate": {"tls_certificates": []},
    "no transaction certificate": {"transaction_certificates": []},
    "too many certificates": {"tls_certificates": [listed(str(n)) for n in range(257)]},
    "a TLS certificate twice": {"tls_certificates": [listed("a"), listed("a")]},
    "a transaction certificate twice": {"transaction_certificates": [listed("a"), listed("a")]},
    "a pin too short": {"tls_certificates": [{"sha256": "ab" * 31, "valid_from": OLD, "valid_until": NEW}]},
    "a pin too long": {"tls_certificates": [{"sha256": "ab" * 33, "valid_from": OLD, "valid_until": NEW}]},
    "a pin that is no digits": {
        "tls_certificates": [{"sha256": "xy" * 32, "valid_from": OLD, "valid_until": NEW}]
    },
    "a pin and a certificate": {"tls_certificates": [{"sha256": "ab" * 32} | listed("a")]},
    "a sealing certificate by digest": {
        "transaction_certificates": [{"sha256": "ab" * 32, "valid_from": OLD, "valid_until": NEW}]
    },
    "a pin without an end": {"tls_certificates": [{"sha256": "ab" * 32, "valid_from": OLD}]},
    "an end before the beginning": {"tls_certificates": [listed("a", NEW, OLD)]},
    "base64 with blanks": {"tls_certificates": [listed("a") | {"certificate": "MII C"}]},
    "base64 of no certificate": {"tls_certificates": [listed("a") | {"certificate": "AAAA"}]},
    "a certificate cut short": {
        "tls_certificates": [listed("a") | {"certificate": b64encode(der("a")[:-1]).decode()}]
    },
    "a certificate with more behind": {
        "tls_certificates": [listed("a") | {"certificate": b64encode(der("a") + b"x").decode()}]
    },
    "a certificate of indefinite length": {
        "tls_certificates": [listed("a") | {"certificate": b64encode(b"\x30\x80\x30\x00\x00\x00").decode()}]
    },
    "a certificate with a length written too long": {
        "tls_certificates": [listed("a") | {"certificate": b64encode(b"\x30\x81\x02\x30\x00").decode()}]
    },
    "no size": {"max_message_mib": 0},
    "a size with a fraction": {"max_message_mib": 25.0},
    "an endless size": {"max_message_mib": 1025},
    "an unknown profile": {"profile": "pec"},
    "unknown stamps": {"stamps": "sometimes"},
    "an end before its beginning": {"until": OLD},
    "an end that is a number": {"until": 1},
}


@pytest.mark.parametrize("name", _WRONG_PROVIDER)
def test_a_wrong_value_of_a_provider_is_refused_by_its_place(name):
    with pytest.raises(ProviderFileError, match=r"providers\[1\]|only whole numbers"):
        parsed(register(provider("hs93.kep.tr"), provider(**_WRONG_PROVIDER[name])))


@pytest.mark.parametrize("key", sorted(provider()))
def test_nothing_of_a_provider_may_be_missing(key):
    entry = provider()
    del entry[key]
    with pytest.raises(ProviderFileError, match="is missing"):
        parsed(register(entry))


def test_a_domain_listed_twice_is_refused():
    with pytest.raises(ProviderFileError, match="listed twice"):
        parsed(register(provider(), provider(transaction_certificates=[listed("other")])))


def test_two_providers_never_share_a_transaction_certificate():
    with pytest.raises(ProviderFileError, match="share one transaction certificate"):
        parsed(
            register(
                provider(), provider("hs93.kep.tr", transaction_certificates=[listed("seal hs92.kep.tr")])
            )
        )


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(b"", "not JSON", id="nothing"),
        pytest.param(b"[]", "object is expected", id="list"),
        pytest.param(b"\xef\xbb\xbf{}", "not JSON", id="byte-order-mark"),
        pytest.param(b'{"version": 1, "version": 1}', "twice", id="repeated-key"),
        pytest.param(b'{"version": NaN}', "whole numbers", id="not-a-number"),
        pytest.param(b'{"version": 1e0}', "whole numbers", id="exponent"),
        pytest.param(b'{"version": ' + b"1" * 5000 + b"}", "too long", id="endless-number"),
        pytest.param(b"[" * 500_000, "too deep", id="depth"),
        pytest.param(b'{"a":' * 100_000, "too deep", id="depth-of-objects"),
        pytest.param(b"\xff", "UTF-8", id="not-utf-8"),
        pytest.param(b" " * (MAX_FILE + 1), "larger", id="too-large"),
        pytest.param(b"{} {}", "not JSON", id="more-behind"),
    ],
)
def test_what_is_no_plain_json_is_refused(data, why):
    with pytest.raises(ProviderFileError, match=why):
        parse_provider_file(data)


def test_a_repeated_key_deep_inside_is_refused():
    text = json.dumps(register(provider())).replace('"port": 2525', '"port": 2525, "port": 25')
    with pytest.raises(ProviderFileError, match="port stands twice"):
        parse_provider_file(text.encode())


@given(data=st.binary(max_size=200))
def test_whatever_comes_is_a_register_or_refused(data):
    with pytest.raises(ProviderFileError):
        parse_provider_file(data)


@given(data=st.data())
def test_any_value_put_anywhere_is_read_or_refused(data):
    value = register(provider(), provider("hs93.kep.tr"))
    target: Any = value
    while True:
        keys = list(target) if isinstance(target, dict) else list(range(len(target)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(target[key], dict | list) or data.draw(st.booleans()):
            break
        target = target[key]
    target[key] = data.draw(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=20)
        | st.just([])
        | st.just({})
    )
    with contextlib.suppress(ProviderFileError):
        assert len(parsed(value).entries) <= 2


# ------------------------------------------------------------------ what changed


def test_everything_of_a_first_register_is_new():
    changes = changes_between(None, parsed(register(provider())))
    assert [(one.kind, one.domain) for one in changes] == [(ChangeKind.NEW, "hs92.kep.tr")]


def test_the_same_register_changes_nothing():
    file = parsed(register(provider()))
    assert changes_between(file, file) == ()


_CHANGED: dict[ChangeKind, dict[str, Any]] = {
    ChangeKind.PERIOD: {"until": NEW},
    ChangeKind.NAME: {"name": "Yeni"},
    ChangeKind.SERVICE_ADDRESS: {"service_address": "hizmet@hs92.kep.tr"},
    ChangeKind.ENDPOINT: {"smtp": {"host": "mx.hs92.kep.tr", "port": 25}},
    ChangeKind.PIN_ADDED: {"tls_certificates": [listed("tls hs92.kep.tr"), listed("more")]},
    ChangeKind.PIN_PERIOD: {"tls_certificates": [listed("tls hs92.kep.tr", OLD, "2027-01-01T00:00:00Z")]},
    ChangeKind.CERTIFICATE_ADDED: {"transaction_certificates": [listed("seal hs92.kep.tr"), listed("more")]},
    ChangeKind.CERTIFICATE_PERIOD: {
        "transaction_certificates": [listed("seal hs92.kep.tr", OLD, "2027-01-01T00:00:00Z")]
    },
    ChangeKind.LIMIT: {"max_message_mib": 30},
    ChangeKind.PROFILE: {"profile": "rem-baseline"},
    ChangeKind.STAMPS: {"stamps": "batch"},
}
_OPPOSITE = {
    ChangeKind.PIN_ADDED: ChangeKind.PIN_REMOVED,
    ChangeKind.CERTIFICATE_ADDED: ChangeKind.CERTIFICATE_REMOVED,
}


@pytest.mark.parametrize("kind", sorted(_CHANGED))
def test_a_change_is_named_and_its_way_back_too(kind):
    before = parsed(register(provider()))
    after = parsed(register(copy.deepcopy(provider(**_CHANGED[kind]))))
    assert [one.kind for one in changes_between(before, after)] == [kind]
    assert [one.kind for one in changes_between(after, before)] == [_OPPOSITE.get(kind, kind)]


def test_every_kind_of_change_is_tried():
    assert set(ChangeKind) == {*_CHANGED, *_OPPOSITE.values(), ChangeKind.NEW, ChangeKind.GONE}


def test_a_provider_no_longer_listed_is_gone():
    changes = changes_between(parsed(register(provider())), parsed(register()))
    assert [(one.kind, one.before) for one in changes] == [(ChangeKind.GONE, "Örnek KEP A.Ş.")]
