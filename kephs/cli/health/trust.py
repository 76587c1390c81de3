"""What `kephs doctor` says of the trust list, and of the folder of roots beside it."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from config.settings import Settings, SettingsError
from evidence.x509.certificates import CertificateError, certificate_facts
from kephs.bootstrap import read_certificates
from kephs.bootstrap.opening import read_anchors
from kephs.cli.findings import Finding, error, ok, warning
from kephs.cli.trust.text import shown
from kephs.domain.trust_list import AnchorKind, AnchorState, TrustAnchor
from kephs.testpki.marker import is_test_root
from kephs.usecases.governance.trust_list import EXPIRY_WARNING
from storage.errors import SchemaError

_IMPORT: Final = "kephs trust import DIR FILE, then two persons: kephs trust approve DIR FINGERPRINT"
_RETIRE: Final = "retire it: kephs trust retire DIR FINGERPRINT"
_SHORT: Final = 12  # hexadecimal digits, enough to find one in the list


def check_trust(settings: Settings, now: datetime) -> Iterable[Finding]:
    """Look at who is trusted, who waits, what ends soon; TEST roots are an error in production."""
    if settings.test_pki.enabled:
        yield warning(
            "test-pki", "this instance was made with --test-pki: its evidence proves nothing",
            "make the production instance without --test-pki",
        )  # fmt: skip
    try:
        folder = read_certificates(settings.trust.roots)
        read_certificates(settings.trust.intermediates)
    except SettingsError as failure:
        yield error("trust", str(failure), "put readable PEM files there")
        folder = []
    try:
        anchors = read_anchors(settings)
    except SchemaError:
        return  # the check of the database has said why
    except SettingsError as failure:
        yield error("trust-list", str(failure), "run kephs fsck DIR; restore the keys or the database")
        return
    yield from _anchors(settings, anchors, now)
    yield from _folder(settings, folder, anchors)


def _anchors(settings: Settings, anchors: Sequence[TrustAnchor], now: datetime) -> Iterable[Finding]:
    trusted = [anchor for anchor in anchors if anchor.trusted]
    if not any(anchor.kind is AnchorKind.ROOT for anchor in trusted):
        yield error("trust-empty", "no root is active: no signature can be trusted", _IMPORT)
    for anchor in trusted:
        yield _active(settings, anchor, now)
    waiting = [anchor for anchor in anchors if anchor.state is AnchorState.PROPOSED]
    if waiting:
        names = ", ".join(shown(anchor.label) for anchor in waiting[:3])
        yield warning(
            "trust-waiting", f"{len(waiting)} certificates wait for confirmation: {names}",
            "two persons compare the fingerprint and approve it, or one retires it: kephs trust list DIR",
        )  # fmt: skip


def _active(settings: Settings, anchor: TrustAnchor, now: datetime) -> Finding:
    name = f"{shown(anchor.label)} ({anchor.fingerprint.hex()[:_SHORT]})"
    if is_test_root(anchor.der) and not settings.test_pki.enabled:
        return error("test-root", f"{name} is a TEST certificate", _RETIRE)
    try:
        left = certificate_facts(anchor.der).not_after - now
    except CertificateError as failure:
        return error("trust-list", f"{name}: {failure}", _RETIRE)
    if left <= EXPIRY_WARNING:
        text = "expired" if left.total_seconds() < 0 else f"expires in {left.days} days"
        return warning("trust-expiring", f"{name} {text}", f"ask its provider for the successor; {_IMPORT}")
    return ok("root" if anchor.kind is AnchorKind.ROOT else "intermediate", name)


def _folder(settings: Settings, folder: Sequence[bytes], anchors: Sequence[TrustAnchor]) -> Iterable[Finding]:
    """Compare the folder that verifiers outside are given with what the server believes."""
    trusted = {anchor.der for anchor in anchors if anchor.trusted}
    strange = sum(der not in trusted for der in folder)
    if strange:
        yield warning(
            "trust-folder",
            f"{settings.trust.roots} holds {strange} certificates that the trust list does not hold active",
            f"the server does not go by that folder: take them out, or {_IMPORT}",
        )
