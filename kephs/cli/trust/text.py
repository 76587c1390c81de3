"""How the trust list is shown: Turkish beside English, and what two persons compare before they confirm."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

import click

from evidence.x509.certificates import CertificateFacts, certificate_facts
from kephs.cli.output import print_facts
from kephs.cli.trust.keys import key_text, key_warnings, limits
from kephs.cli.trust.words import cure_of
from kephs.domain.trust_list import AnchorKind, AnchorState, TrustAnchor
from kephs.usecases.governance.trust_list import EXPIRY_WARNING, Proposal

_STATES: Final[Mapping[AnchorState, str]] = MappingProxyType(
    {
        AnchorState.PROPOSED: "PROPOSED / önerildi (not trusted / güvenilmiyor)",
        AnchorState.ACTIVE: "ACTIVE / geçerli",
        AnchorState.RETIRED: "RETIRED / kaldırıldı",
    }
)
_KINDS: Final[Mapping[AnchorKind, str]] = MappingProxyType(
    {AnchorKind.ROOT: "root / kök", AnchorKind.INTERMEDIATE: "intermediate / ara"}
)


def anchor_facts(anchor: TrustAnchor, now: datetime) -> dict[str, Any]:
    """Return an anchor as JSON shows it."""
    facts = certificate_facts(anchor.der)
    return {
        "fingerprint": anchor.fingerprint.hex(),
        "state": anchor.state.value,
        "trusted": anchor.trusted,
        "kind": anchor.kind.value,
        "label": anchor.label,
        "subject": facts.subject_text,
        "spki_sha256": sha256(facts.spki).hexdigest(),
        **_key_facts(facts, now),
        "not_before": _time(facts.not_before),
        "not_after": _time(facts.not_after),
        "expired": now > facts.not_after,
        "expires_soon": facts.not_after - now <= EXPIRY_WARNING,
        "proposed": {"by": anchor.proposed_by, "at": _time(anchor.proposed_at)},
        "confirmed": [{"by": name, "at": _time(at)} for name, at in anchor.confirmed],
        "retired": None
        if anchor.retired_at is None
        else {"by": anchor.retired_by, "at": _time(anchor.retired_at), "reason": anchor.reason},
    }


def print_anchor(anchor: TrustAnchor, now: datetime) -> None:
    """Print an anchor: what it is, until when, who stands for it."""
    facts = certificate_facts(anchor.der)
    lines = [("state / durum", _STATES[anchor.state]), *_certificate(facts, anchor.kind, now)]
    lines.append(("proposed / öneren", f"{anchor.proposed_by}, {_time(anchor.proposed_at)}"))
    lines += [("confirmed / onaylayan", f"{name}, {_time(at)}") for name, at in anchor.confirmed]
    if anchor.retired_at is not None:
        lines.append(("retired / kaldıran", f"{anchor.retired_by}, {_time(anchor.retired_at)}"))
        lines.append(("reason / gerekçe", anchor.reason))
    click.echo(shown(anchor.label))
    print_facts((f"  {name}", shown(value)) for name, value in lines)


def proposal_facts(proposal: Proposal, now: datetime) -> dict[str, Any]:
    """Return what became of a certificate as JSON shows it."""
    told: dict[str, Any] = {"fingerprint": proposal.fingerprint.hex(), "label": proposal.label}
    if proposal.anchor is None:
        fault = None if proposal.fault is None else proposal.fault.value
        cure = "" if fault is None else cure_of(fault)
        return {**told, "refused": {"code": fault, "text": proposal.problem, "cure": cure}}
    facts = certificate_facts(proposal.anchor.der)
    return {
        **told,
        "state": proposal.anchor.state.value,
        "kind": proposal.anchor.kind.value,
        "known": proposal.known,
        "subject": facts.subject_text,
        "spki_sha256": sha256(facts.spki).hexdigest(),
        **_key_facts(facts, now),
        "not_before": _time(facts.not_before),
        "not_after": _time(facts.not_after),
    }


def _key_facts(facts: CertificateFacts, now: datetime) -> dict[str, Any]:
    told = [asdict(one) for one in key_warnings(facts, now)]
    return {"key": key_text(facts), "warnings": told}


def print_proposals(proposals: Sequence[Proposal], now: datetime) -> None:
    """Print what became of each certificate, with what is to be compared before it is confirmed."""
    for one in proposals:
        if one.anchor is None or one.fault is not None:
            name = one.label or one.fingerprint.hex()
            click.echo(f"REFUSED / reddedildi: {shown(name)}: {shown(one.problem)}")
            if one.fault is not None:
                click.echo(f"  -> {cure_of(one.fault.value)}")
            continue
        state = "known already / zaten kayıtlı: " if one.known else ""
        click.echo(f"{shown(one.label)}: {state}{_STATES[one.anchor.state]}")
        facts = certificate_facts(one.anchor.der)
        print_facts((f"  {name}", shown(value)) for name, value in _certificate(facts, one.anchor.kind, now))
    if any(one.anchor is not None and one.anchor.state is AnchorState.PROPOSED for one in proposals):
        click.echo(
            f"authorities' keys / makam anahtarları: {limits()}\n"
            "nothing is trusted yet: two persons compare each fingerprint with the provider's own\n"
            "publication and type it: kephs trust approve DIR FINGERPRINT --by NAME\n"
            "henüz güvenilmiyor: iki kişi parmak izini sağlayıcının kendi yayınıyla karşılaştırıp\n"
            "yazarak onaylar"
        )


def _certificate(facts: CertificateFacts, kind: AnchorKind, now: datetime) -> list[tuple[str, str]]:
    lines = [
        ("kind / tür", _KINDS[kind]),
        ("subject / ad", facts.subject_text),
        ("SHA-256", facts.sha256.hex()),
        ("key / anahtar", key_text(facts)),
        ("key (SPKI) SHA-256", sha256(facts.spki).hexdigest()),
        ("valid / geçerlilik", f"{_time(facts.not_before)} .. {_time(facts.not_after)}"),
    ]
    if now > facts.not_after:
        lines.append(("WARNING / UYARI", "expired / süresi doldu"))
    elif facts.not_after - now <= EXPIRY_WARNING:
        days = (facts.not_after - now).days
        lines.append(("WARNING / UYARI", f"expires in {days} days / {days} gün sonra süresi doluyor"))
    for one in key_warnings(facts, now):
        lines += [("WARNING", one.english), ("UYARI", one.turkish)]
    return lines


def shown(text: str) -> str:
    """Return text that cannot move the cursor: names in certificates are anybody's."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
