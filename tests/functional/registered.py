"""For functional tests: changes an instance's settings, and lets it know peers by a register of its own."""

import tomllib
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import tomli_w

from config import settings as config_settings
from evidence.adapters.soft_signer import SoftSigner
from kephs.bootstrap import open_register_folder
from kephs.cli.demo.register import register_operator
from kephs.register_seal import make_register, register_entry
from tests.functional.site import now


def set_values(home: Path, section: str, **values: object) -> None:
    """Change single settings of an instance."""
    path = home / config_settings.FILE_NAME
    settings = tomllib.loads(path.read_text("utf-8"))
    settings.setdefault(section, {}).update(values)
    path.write_text(tomli_w.dumps(settings), "utf-8")


def pinned_operator(home: Path) -> SoftSigner:
    """Return the key of a register's operator whom the instance believes from now on."""
    operator = register_operator(home.parent / "operator", now() - timedelta(days=30))
    set_values(home, "peers", register_signers=[sha256(operator.certificate).hexdigest()])
    return operator


def entry(domain: str, tls: bytes, transaction: bytes, **changed: Any) -> dict[str, Any]:
    """Return a provider's entry; nobody answers at its port unless that is changed."""
    values: dict[str, Any] = {
        "domain": domain, "name": f"TEST {domain}", "service_address": f"kep-hizmet@{domain}",
        "host": "127.0.0.1", "port": 2525, "tls_certificates": [tls],
        "transaction_certificates": [transaction], "max_message_mib": 1, "since": now() - timedelta(days=1),
    }  # fmt: skip
    return register_entry(**values | changed)


def publish(
    home: Path, operator: SoftSigner, entries: Sequence[dict[str, Any]], *, at: datetime, days: float = 30
) -> None:
    """Sign a register as of ``at`` and take it into the instance, as of then."""
    content, signature = make_register(
        entries, operator, sequence=int(at.timestamp()), issued_at=at, next_update=at + timedelta(days=days)
    )
    path = home.parent / "providers.json"
    path.write_bytes(content)
    path.with_name("providers.json.p7s").write_bytes(signature)
    open_register_folder(config_settings.load(home), lambda: at).import_file(path)
