"""``kephs peers``: from the entries that two providers describe to a register both have taken in."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from click.testing import CliRunner, Result

from config import settings as config_settings
from evidence.x509.certificates import certificate_facts
from kephs.bootstrap import open_register
from kephs.cli.instance import Ports, make_instance
from kephs.cli.output import ExitError
from kephs.cli.providers.peers import command, describe_instance
from kephs.register_seal import register_entry
from kephs.testpki.hierarchy import self_signed
from kephs.testpki.issued import Issued
from kephs.testpki.keys import make_key


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@cache
def issued(name: str) -> Issued:
    """Return a self-signed certificate of its own for each name."""
    assert name
    return self_signed("tls", make_key("p256"), now()).issued


def pin(name: str) -> str:
    return certificate_facts(issued(name).certificate).sha256.hex()


def peers(*arguments: object, ok: bool = True) -> Result:
    result = CliRunner().invoke(command, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "internal-error" not in result.output
    assert (result.exit_code == 0) is ok, result.output + result.stderr
    return result


def facts(*arguments: object, ok: bool = True) -> Any:
    return json.loads(peers(*arguments, "--json", ok=ok).stdout)


@dataclass
class Home:
    """An instance with certificates, and a desk for registers."""

    path: Path

    def register(self, name: str = "register.json", *, sequence: int = 1, entries: Any = None) -> Path:
        path = self.path.parent / name
        path.write_text(json.dumps(register(entries or [entry()], sequence=sequence)), "utf-8")
        return path

    def signed(self, name: str = "register.json", *, by: str = "operator", **more: Any) -> Path:
        path = self.register(name, **more)
        peers("sign", path, *key_of(self.path.parent, by))
        return path


def key_of(folder: Path, name: str) -> tuple[object, ...]:
    files = issued(name).write(folder, name)
    return ("--key", files.key, "--certificate", files.certificate)


def entry(domain: str = "hs92.kep.tr", **changed: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "domain": domain,
        "name": f"TEST {domain} KEP Hizmet Sağlayıcısı A.Ş.",
        "service_address": f"kep-hizmet@{domain}",
        "host": "127.0.0.1",
        "port": 2525,
        "tls_certificates": [issued(f"tls {domain}").certificate],
        "transaction_certificates": [issued(f"seal {domain}").certificate],
        "max_message_mib": 25,
        "since": now() - timedelta(days=1),
    }
    return register_entry(**values | changed)


def register(entries: list[dict[str, Any]], *, sequence: int = 1, days: float = 7) -> dict[str, Any]:
    text = "%Y-%m-%dT%H:%M:%SZ"
    return {
        "version": 1,
        "sequence": sequence,
        "issued_at": format(now(), text),
        "next_update": format(now() + timedelta(days=days), text),
        "providers": entries,
    }


@pytest.fixture
def home(tmp_path: Path) -> Home:
    path = tmp_path / "hs91"
    make_instance(path, "hs91.kep.tr", now=now(), test_pki=False, ports=Ports())
    keys = path / "keys"
    tls, seal = issued("tls hs91").write(keys, "tls"), issued("seal hs91").write(keys, "transaction")
    values = {
        "provider": {
            "domain": "hs91.kep.tr", "legal_name": "TEST hs91 A.Ş.", "service_address": "kep-hizmet@hs91.kep.tr",
        },
        "network": {
            "host": "127.0.0.1", "inbound_port": 2591, "tls_certificate": str(tls.certificate), "tls_key": str(tls.key),
        },
        "seal": {"certificate": str(seal.certificate), "key": str(seal.key), "chain": str(seal.chain)},
        "peers": {"register_signers": [pin("operator")]},
    }  # fmt: skip
    (path / config_settings.FILE_NAME).write_text(tomli_w.dumps(values), "utf-8")
    return Home(path)


def test_an_instance_without_a_register_knows_no_peers(home):
    assert facts("list", home.path)["peers"] == []
    assert "hiçbir sağlayıcı tanınmıyor" in peers("list", home.path).stdout
    assert facts("history", home.path) == {"issues": []}


def test_a_signed_register_is_imported_listed_and_shown(home):
    path = home.signed()
    told = peers("import", home.path, path).stdout
    assert "hs92.kep.tr: new provider / yeni sağlayıcı: TEST hs92.kep.tr" in told
    listed = facts("list", home.path)
    assert (listed["sequence"], listed["stale"], listed["problem"]) == (1, False, None)
    (peer,) = listed["peers"]
    assert (peer["domain"], peer["smtp"]) == ("hs92.kep.tr", {"host": "127.0.0.1", "port": 2525})
    assert peer["tls_pins"] == [pin("tls hs92.kep.tr")]
    assert "hs92.kep.tr" in peers("list", home.path).stdout
    shown = facts("show", home.path, "HS92.kep.tr")
    assert (shown["registered_now"], shown["own"], shown["until"]) == (True, False, None)
    assert [one["sha256"] for one in shown["transaction_certificates"]] == [pin("seal hs92.kep.tr")]
    assert "işlem sertifikaları" in peers("show", home.path, "hs92.kep.tr").stdout


def test_a_newer_issue_says_in_words_what_changed_and_both_are_kept(home):
    peers("import", home.path, home.signed())
    changed = entry(
        tls_certificates=[issued("tls hs92.kep.tr").certificate, issued("new tls").certificate],
        transaction_certificates=[issued("new seal").certificate], port=25,
    )  # fmt: skip
    newer = home.signed("newer.json", sequence=2, entries=[changed, entry("hs93.kep.tr")])
    told = peers("import", home.path, newer).stdout
    for words in (
        f"TLS certificate added / TLS sertifikası eklendi: {pin('new tls')}",
        "WARNING: transaction certificate no longer listed",
        f"işlem sertifikası eklendi: {pin('new seal')}",
        "SMTP sunucusu değişti: 127.0.0.1 2525 -> 127.0.0.1 25",
        "hs93.kep.tr: new provider",
    ):
        assert words in told
    assert "zaten kayıtlı" in peers("import", home.path, newer).stdout
    assert facts("import", home.path, newer)["stored"] is False
    issues = facts("history", home.path)["issues"]
    assert [(one["sequence"], one["providers"]) for one in issues] == [
        (1, ["hs92.kep.tr"]), (2, ["hs92.kep.tr", "hs93.kep.tr"]),
    ]  # fmt: skip
    assert "hs92.kep.tr,hs93.kep.tr" in peers("history", home.path).stdout


def test_what_an_instance_describes_of_itself_is_an_entry_of_a_register(home):
    own = json.loads(peers("describe", home.path).stdout)
    assert (own["domain"], own["name"]) == ("hs91.kep.tr", "TEST hs91 A.Ş.")
    assert own["smtp"] == {"host": "127.0.0.1", "port": 2591}
    peers("import", home.path, home.signed(entries=[own, entry()]))
    listed = facts("list", home.path)
    assert listed["own_listed"]
    assert [one["domain"] for one in listed["peers"]] == ["hs92.kep.tr"]
    assert "kendi kaydımız" in peers("list", home.path).stdout
    assert facts("show", home.path, "hs91.kep.tr")["own"]


def test_describe_names_the_address_that_peers_reach(home):
    own = json.loads(
        peers("describe", home.path, "--host", "mx.hs91.kep.tr", "--port", "25", "--json").stdout
    )
    assert own["smtp"] == {"host": "mx.hs91.kep.tr", "port": 25}
    settings = config_settings.load(home.path)
    anywhere = settings.model_copy(
        update={"network": settings.network.model_copy(update={"host": "0.0.0.0", "inbound_port": 0})}
    )
    with pytest.raises(ExitError, match="inbound_port"):
        describe_instance(anywhere)
    with pytest.raises(ExitError, match=r"0\.0\.0\.0"):
        describe_instance(anywhere, port=25)


def test_both_signers_of_a_roll_over_are_believed(home):
    values = (home.path / config_settings.FILE_NAME).read_text("utf-8")
    both = values.replace(pin("operator"), f'{pin("operator")}", "{pin("successor")}')
    (home.path / config_settings.FILE_NAME).write_text(both, "utf-8")
    assert facts("import", home.path, home.signed())["stored"]
    assert facts("import", home.path, home.signed(by="successor", sequence=2))["stored"]


def refused(home: Home, path: Path) -> str:
    """Return the stable code with which an import is refused; nothing of it is kept."""
    before = facts("history", home.path)
    code = facts("import", home.path, path, ok=False)["error"]["code"]
    assert isinstance(code, str)
    told = peers("import", home.path, path, ok=False)
    assert f"[{code}]" in told.stderr
    assert facts("history", home.path) == before
    return code


def test_bad_registers_are_refused_by_a_stable_code(home):
    good = home.signed(sequence=5)
    flipped = home.signed("flipped.json", sequence=6)
    flipped.write_bytes(flipped.read_bytes().replace(b"2525", b"2526"))
    assert refused(home, flipped) == "register-signature"
    broken = home.signed("broken.json", sequence=6)
    signature = broken.with_name("broken.json.p7s")
    signature.write_bytes(signature.read_bytes()[:-1] + b"\0")
    assert refused(home, broken) == "register-signature"
    assert refused(home, home.signed("foreign.json", by="stranger", sequence=6)) == "register-signature"
    assert refused(home, home.register("unsigned.json", sequence=6)) == "register-unreadable"
    assert refused(home, home.path / "nothing.json") == "register-unreadable"
    peers("import", home.path, good)
    assert refused(home, home.signed("older.json", sequence=4)) == "register-sequence-falls"
    other = home.signed("other.json", sequence=5, entries=[entry("hs93.kep.tr")])
    assert refused(home, other) == "register-sequence-reused"
    late = home.path.parent / "late.json"
    late.write_text(
        json.dumps(register([entry()], sequence=6, days=-0.1) | {"issued_at": "2026-01-01T00:00:00Z"})
    )
    peers("sign", late, *key_of(home.path.parent, "operator"))
    assert refused(home, late) == "register-expired"


def test_past_its_next_update_the_register_is_shown_as_stale(home):
    late = register([entry()], days=-1) | {"issued_at": "2026-01-01T00:00:00Z"}
    folder = home.path / "peers"
    (folder / "providers.json").write_text(json.dumps(late), "utf-8")
    peers("sign", folder / "providers.json", *key_of(home.path.parent, "operator"))
    listed = facts("list", home.path)
    assert (listed["stale"], [one["domain"] for one in listed["peers"]]) == (True, ["hs92.kep.tr"])
    assert "nothing is relayed / UYARI: süresi geçti" in peers("list", home.path).stdout


def test_where_the_current_file_is_damaged_the_list_says_so_and_the_last_good_one_holds(home):
    peers("import", home.path, home.signed())
    (home.path / "peers" / "providers.json").write_bytes(b"{}")
    listed = facts("list", home.path)
    assert (listed["sequence"], bool(listed["problem"])) == (1, True)
    assert "WARNING / UYARI" in peers("list", home.path).stdout


def test_without_a_pinned_signer_nothing_is_imported_and_a_wrong_pin_is_named(home):
    path = home.path / config_settings.FILE_NAME
    values = path.read_text("utf-8")
    path.write_text(values.replace(f'"{pin("operator")}",', ""), "utf-8")
    assert refused(home, home.signed()) == "register-signature"
    path.write_text(values.replace(pin("operator"), pin("operator")[:-2]), "utf-8")
    told = peers("list", home.path, ok=False)
    assert "[settings-invalid]" in told.stderr
    assert "64 hexadecimal digits" in told.stderr


def test_an_unknown_provider_is_named(home):
    peers("import", home.path, home.signed())
    assert facts("show", home.path, "hs99.kep.tr", ok=False)["error"]["code"] == "no-such-peer"


_UNSIGNABLE: dict[str, Any] = {
    "a domain that is no KEP domain": lambda: [entry(domain="example.com")],
    "a domain twice": lambda: [entry(), entry()],
    "a shared transaction certificate": lambda: [
        entry(),
        entry("hs93.kep.tr") | {"transaction_certificates": entry()["transaction_certificates"]},
    ],
    "a pin too short": lambda: [
        entry()
        | {
            "tls_certificates": [
                {"sha256": "ab", "valid_from": "2026-01-01T00:00:00Z", "valid_until": "2027-01-01T00:00:00Z"}
            ]
        }
    ],
    "bytes that are no certificate": lambda: [
        entry()
        | {"transaction_certificates": [entry()["transaction_certificates"][0] | {"certificate": "MAIwAA=="}]}
    ],
}


@pytest.mark.parametrize("name", _UNSIGNABLE)
def test_the_operator_cannot_sign_what_providers_would_refuse(home, name):
    path = home.register(entries=_UNSIGNABLE[name]())
    told = facts("sign", path, *key_of(home.path.parent, "operator"), ok=False)
    assert told["error"]["code"] == "register-content"
    assert not path.with_name("register.json.p7s").exists()


def test_signing_names_the_pin_that_providers_set(home):
    told = facts("sign", home.register(), *key_of(home.path.parent, "operator"))
    assert (told["signer_sha256"], told["sequence"]) == (pin("operator"), 1)


def test_a_wrong_key_does_not_sign(home):
    mine, others = key_of(home.path.parent, "operator"), key_of(home.path.parent, "stranger")
    told = facts("sign", home.register(), *mine[:2], *others[2:], ok=False)
    assert told["error"]["code"] == "key-unusable"


def test_a_running_server_s_view_follows_an_import_from_the_shell(home):
    at = [now()]
    register_of_server = open_register(config_settings.load(home.path), lambda: at[0])
    assert dict(register_of_server.peers) == {}
    peers("import", home.path, home.signed())
    at[0] += timedelta(seconds=1)
    assert set(register_of_server.peers) == {"hs92.kep.tr"}
    assert not register_of_server.stale()
    at[0] += timedelta(days=7)
    assert register_of_server.stale()
