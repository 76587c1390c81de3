"""The negative matrix: which rule each spoil breaks, on which twin, and what the verifier must say.

A row is (rule, twin, spoil, step, sub-indication). Steps are those of ``docs/nes-verification.md``. The verdict
follows from the sub-indication (`EN 319 102-1`, signing.md 1) unless the row says otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from evidence.report import SubIndication, Verdict
from tests.support.nes_zoo import CLAIMED, DAY, FETCHED, HOUR, MINUTE, STAMPED, Plan, SignerPlan
from tests.support.nes_zoo_cases_ades import ADES_ROWS
from tests.support.nes_zoo_rows import Row
from tests.support.nes_zoo_twins import TWINS
from tests.support.nes_zoo_valid import ENDING

__all__ = ["CASES", "TWINS", "Case", "Row"]

CERTAIN: Final = frozenset(
    {"FORMAT_FAILURE", "HASH_FAILURE", "SIG_CRYPTO_FAILURE", "REVOKED", "EXPIRED", "NOT_YET_VALID"}
)
"""Sub-indications of TOTAL-FAILED; all others are INDETERMINATE."""


def _rows(text: str) -> list[Row]:
    """Read rows of five columns; they stay readable as a table only so."""
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return [Row(rule, twins, spoil, step, sub) for rule, twins, spoil, step, sub in filter(None, lines)]


_CMS: Final = """
# rule                                  twins             spoil                   step    sub-indication
digest-is-of-the-content                detached,opaque   digest-altered          3.1.2   HASH_FAILURE
content-is-as-signed                    detached          content-altered         3.1.2   HASH_FAILURE
value-verifies                          detached,opaque   value-altered           3.1.4   SIG_CRYPTO_FAILURE
value-is-there                          detached          value-empty             3.1.4   SIG_CRYPTO_FAILURE
ecdsa-value-is-a-der-sequence           detached          value-raw               3.1.4   SIG_CRYPTO_FAILURE
value-is-of-the-certificates-key        detached,opaque   key-other               3.1.4   SIG_CRYPTO_FAILURE
ess-hash-is-the-certificates            detached,opaque   ess-hash-altered        3.1.3   NO_SIGNING_CERTIFICATE_FOUND
ess-v2-is-mandatory                     detached,opaque   ess-missing             3.1.3   FORMAT_FAILURE
ess-v2-is-mandatory-in-profiles         P4                ess-missing             3.1.3   FORMAT_FAILURE
ess-v1-is-refused                       detached,opaque   ess-v1-only             3.1.3   SIG_CONSTRAINTS_FAILURE
ess-v2-with-sha1-is-refused             detached          ess-sha1                3.1.3   SIG_CONSTRAINTS_FAILURE
ess-serial-is-the-certificates          detached          ess-serial-other        3.1.3   NO_SIGNING_CERTIFICATE_FOUND
expired-before-the-proven-time          later-proven      expired                 3.1.7   EXPIRED
ess-issuer-is-the-certificates          detached          ess-issuer-other        3.1.3   NO_SIGNING_CERTIFICATE_FOUND
ess-has-one-value                       detached          ess-doubled             3.1.1   FORMAT_FAILURE
ess-names-a-certificate                 detached          ess-empty               3.1.3   FORMAT_FAILURE
content-type-is-mandatory               detached,opaque   content-type-missing    3.1.1   FORMAT_FAILURE
content-type-is-the-content-type        detached          content-type-other      3.1.1   FORMAT_FAILURE
content-type-stands-once                detached          content-type-twice      3.1.1   FORMAT_FAILURE
content-type-has-one-value              detached          content-type-doubled    3.1.1   FORMAT_FAILURE
message-digest-is-mandatory             detached          digest-missing          3.1.2   FORMAT_FAILURE
message-digest-has-one-value            detached          digest-doubled          3.1.1   FORMAT_FAILURE
message-digest-stands-once              detached          digest-twice            3.1.1   FORMAT_FAILURE
message-digest-has-a-value              detached          digest-no-value         3.1.1   FORMAT_FAILURE
signing-time-has-one-value              detached          time-doubled            3.1.1   FORMAT_FAILURE
signing-time-is-a-time                  detached          time-malformed          3.1.1   FORMAT_FAILURE
signing-time-is-utc                     detached          time-local              3.1.1   FORMAT_FAILURE
signed-attributes-are-mandatory         detached,opaque   no-signed-attributes    3.1.1   FORMAT_FAILURE
signers-certificate-is-embedded         detached,opaque   signer-not-embedded     3.1.3   NO_SIGNING_CERTIFICATE_FOUND
some-certificate-is-embedded            detached          certificates-none       3.1.3   NO_SIGNING_CERTIFICATE_FOUND
signer-id-names-the-certificate         detached          sid-serial-other        3.1.3   NO_SIGNING_CERTIFICATE_FOUND
signer-id-and-ess-name-the-same         detached          sid-of-authority        3.1.3   NO_SIGNING_CERTIFICATE_FOUND
nothing-follows-the-signature           detached,opaque   trailing-octet          2       FORMAT_FAILURE
nothing-follows-the-signers             detached          trailing-inside         2       FORMAT_FAILURE
lengths-are-minimal                     detached,opaque   long-form-length        2       FORMAT_FAILURE
lengths-are-definite                    detached,opaque   indefinite-length       2       FORMAT_FAILURE
signature-is-whole                      detached          cut-short               2       FORMAT_FAILURE
at-least-one-signer                     detached,opaque   no-signers              2       FORMAT_FAILURE
at-most-eight-signers                   detached          nine-signers            2       FORMAT_FAILURE
digest-algorithms-are-listed            detached          digest-not-listed       2       FORMAT_FAILURE
version-is-known                        detached          version-wrong           2       FORMAT_FAILURE
signer-version-goes-with-its-id         detached          signer-version-wrong    2       FORMAT_FAILURE
content-is-data                         detached          content-type-tst        2       FORMAT_FAILURE
content-stands-once                     detached          content-inside-too      2       FORMAT_FAILURE
content-is-there                        opaque            content-not-inside      2       FORMAT_FAILURE
type-is-signed-data                     detached,opaque   not-signed-data         2       FORMAT_FAILURE
only-x509-certificates                  detached          attribute-certificate   2       FORMAT_FAILURE
unsigned-attributes-are-not-empty       detached          unsigned-empty          2       FORMAT_FAILURE
rsa-from-2048-bits                      rsa2048           rsa1024                 3.1.5   CRYPTO_CONSTRAINTS_FAILURE
ecdsa-from-256-bits                     detached          p224                    3.1.5   CRYPTO_CONSTRAINTS_FAILURE
hashes-do-not-contradict                detached          hash-contradiction      3.1.4   SIG_CRYPTO_FAILURE
pss-salt-is-as-long-as-the-hash         rsa2048-pss       pss-salt-short          3.1.4   CRYPTO_CONSTRAINTS_FAILURE
pss-mask-has-the-same-hash              rsa2048-pss       pss-mask-other          3.1.4   CRYPTO_CONSTRAINTS_FAILURE
pss-default-parameters-mean-sha1        rsa2048-pss       pss-no-parameters       3.1.4   CRYPTO_CONSTRAINTS_FAILURE
signature-algorithm-is-known            detached          algorithm-unknown       3.1.4   CRYPTO_CONSTRAINTS_FAILURE
"""

_CERTIFICATE: Final = """
non-repudiation-is-set                  detached,opaque   no-non-repudiation      3.1.9   CHAIN_CONSTRAINTS_FAILURE
key-usage-is-there                      detached          no-key-usage            3.1.9   CHAIN_CONSTRAINTS_FAILURE
authorities-do-not-sign-mail            detached          holder-authority        3.1.9   CHAIN_CONSTRAINTS_FAILURE
user-notice-is-there                    detached,opaque   no-user-notice          3.1.10  CHAIN_CONSTRAINTS_FAILURE
user-notice-says-something              detached          blank-user-notice       3.1.10  CHAIN_CONSTRAINTS_FAILURE
policies-are-there                      detached          no-policies             3.1.10  CHAIN_CONSTRAINTS_FAILURE
statements-are-there                    detached,opaque   no-statements           3.1.8   CHAIN_CONSTRAINTS_FAILURE
etsi-statement-is-there                 detached,opaque   no-etsi-statement       3.1.8   CHAIN_CONSTRAINTS_FAILURE
btk-statement-is-there                  detached,opaque   no-btk-statement        3.1.8   CHAIN_CONSTRAINTS_FAILURE
btk-text-alone-is-nothing               detached          btk-text-without-oid    3.1.8   CHAIN_CONSTRAINTS_FAILURE
btk-statement-is-exact                  detached          btk-arc-only            3.1.8   CHAIN_CONSTRAINTS_FAILURE
btk-statement-is-no-policy              detached          btk-oid-as-policy       3.1.8   CHAIN_CONSTRAINTS_FAILURE
statements-stand-in-their-extension     detached          statements-elsewhere    3.1.8   CHAIN_CONSTRAINTS_FAILURE
statements-are-no-key-usage             detached          statement-as-usage      3.1.8   CHAIN_CONSTRAINTS_FAILURE
seals-only-where-allowed                detached,opaque   seal                    3.1.8   CHAIN_CONSTRAINTS_FAILURE
mali-muhur-is-no-nes                    detached,opaque   mali-muhur              3.1.10  CHAIN_CONSTRAINTS_FAILURE
providers-do-not-sign-as-senders        detached          transaction-policy      3.1.10  CHAIN_CONSTRAINTS_FAILURE
certificate-is-not-expired              detached,opaque   expired                 3.1.7   EXPIRED
certificate-is-valid-already            detached,opaque   not-yet-valid           3.1.7   NOT_YET_VALID
signature-algorithms-of-it-agree        detached          holder-algorithms-differ 3.1.3  NO_SIGNING_CERTIFICATE_FOUND
key-id-names-the-certificate            key-id            sid-key-of-authority    3.1.3   NO_SIGNING_CERTIFICATE_FOUND
certificate-is-well-signed              detached,p384,pss holder-badly-signed     3.1.7   NO_CERTIFICATE_CHAIN_FOUND
authority-is-well-signed                detached,p384,pss ca-badly-signed         3.1.7   NO_CERTIFICATE_CHAIN_FOUND
same-name-impostor-is-no-issuer         detached,opaque   holder-impostor         3.1.7   NO_CERTIFICATE_CHAIN_FOUND
same-name-impostor-is-no-root           detached          ca-impostor             3.1.7   NO_CERTIFICATE_CHAIN_FOUND
critical-extensions-are-understood      detached          holder-critical         3.1.7   CHAIN_CONSTRAINTS_FAILURE
authority-says-so                       detached          ca-no-authority         3.1.7   CHAIN_CONSTRAINTS_FAILURE
authority-may-sign-certificates         detached          ca-no-cert-sign         3.1.7   CHAIN_CONSTRAINTS_FAILURE
authoritys-critical-extensions-too      detached          ca-critical             3.1.7   CHAIN_CONSTRAINTS_FAILURE
name-constraints-are-not-ignored        detached          ca-name-constraints     3.1.7   CHAIN_CONSTRAINTS_FAILURE
authority-is-not-expired                detached          ca-expired              3.1.7   NO_CERTIFICATE_CHAIN_FOUND
authority-is-valid-already              detached          ca-not-yet-valid        3.1.7   NO_CERTIFICATE_CHAIN_FOUND
root-is-not-expired                     detached          root-expired            3.1.7   NO_CERTIFICATE_CHAIN_FOUND
path-length-counts                      detached          root-path-length        3.1.7   CHAIN_CONSTRAINTS_FAILURE
only-configured-roots                   detached,opaque   root-not-configured     3.1.7   NO_CERTIFICATE_CHAIN_FOUND
nothing-is-trusted-by-default           detached          roots-none              3.1.7   NO_CERTIFICATE_CHAIN_FOUND
rsa-authority-from-4096-bits            pss               ca-rsa3072              3.1.7   CRYPTO_CONSTRAINTS_FAILURE
rsa-authority-with-pss-only             pss               holder-pkcs1-signed     3.1.7   CRYPTO_CONSTRAINTS_FAILURE
no-sha1-in-certificates                 detached          holder-sha1-signed      3.1.7   CRYPTO_CONSTRAINTS_FAILURE
no-sha224-in-certificates               detached          holder-sha224-signed    3.1.7   CRYPTO_CONSTRAINTS_FAILURE
no-sha1-in-authorities                  detached          ca-sha1-signed          3.1.7   CRYPTO_CONSTRAINTS_FAILURE
"""

_REVOCATION: Final = """
ocsp-is-well-signed                     detached          ocsp-badly-signed       5.1     TRY_LATER
responder-is-the-issuers                detached          ocsp-responder-of-root  5.1     TRY_LATER
responder-is-a-responder                detached          ocsp-by-tsa             5.1     TRY_LATER
responders-certificate-is-there         detached          ocsp-responder-unnamed  5.1     TRY_LATER
responder-has-its-usage                 detached          ocsp-responder-no-usage 5.1     TRY_LATER
responder-has-no-other-usage            detached          ocsp-responder-other-usage 5.1  TRY_LATER
responder-is-not-expired                detached          ocsp-responder-expired  5.1     TRY_LATER
responder-is-no-impostors               detached          ocsp-responder-impostor 5.1     TRY_LATER
ocsp-speaks-of-this-certificate         detached          ocsp-other-serial       5.1     TRY_LATER
ocsp-is-fresh                           detached          ocsp-stale              5.1     TRY_LATER
ocsp-is-not-of-the-future               detached          ocsp-future             5.1     TRY_LATER
ocsp-knows-the-certificate              detached,P4       ocsp-unknown            5.1     TRY_LATER
ocsp-critical-extensions-are-understood detached          ocsp-critical           5.1     TRY_LATER
authorities-are-asked-too               detached          ocsp-unknown-for-ca     5.2     TRY_LATER
crl-is-fresh                            crl               crl-stale               5.1     TRY_LATER
crl-is-well-signed                      crl               crl-badly-signed        5.1     TRY_LATER
crl-is-the-issuers                      crl               crl-by-other            5.1     TRY_LATER
crl-has-an-end                          crl               crl-without-end         5.1     TRY_LATER
crl-critical-extensions-are-understood  crl               crl-critical            5.1     TRY_LATER
crl-covers-this-kind                    crl               crl-for-authorities-only 5.1    TRY_LATER
crl-is-complete                         crl               crl-delta               5.1     TRY_LATER
crl-of-the-root-is-fresh                crl               crl-of-root-stale       5.2     TRY_LATER
"""

_MESSAGE: Final = """
signature-is-outermost                  detached          nested-in-mixed         1       SIGNED_DATA_NOT_FOUND
nothing-stands-beside-the-signed-part   detached          third-part              1       FORMAT_FAILURE
one-signature-part                      detached          two-signatures          1       FORMAT_FAILURE
nothing-stands-before-the-signed-part   detached          preamble                1       SIG_CONSTRAINTS_FAILURE
nothing-stands-after-the-signature      detached          epilogue                1       SIG_CONSTRAINTS_FAILURE
signed-message-is-closed                detached          not-closed              1       FORMAT_FAILURE
message-is-signed                       detached          not-signed              1       SIGNED_DATA_NOT_FOUND
protocol-is-smime                       detached          protocol-pgp            1       SIGNED_DATA_NOT_FOUND
content-type-field-stands-once          detached          content-type-field-twice 1      FORMAT_FAILURE
encrypted-is-not-signed                 opaque            encrypted               1       SIGNED_DATA_NOT_FOUND
base64-is-strict                        detached,opaque   base64-foreign          1       FORMAT_FAILURE
"""


def _circumstances() -> list[Row]:
    """Rows whose octets are the twin's: what differs is when, or what became of the certificate."""

    def row(rule: str, twin: str, step: str, sub: str, **change: object) -> Row:
        return Row(rule, twin, "", step, sub, tuple(change.items()))

    def revoked(who: str, at: object) -> tuple[tuple[str, object], ...]:
        return ((who, at),)

    return [
        row("revoked-holder-fails", "detached", "4.1", "REVOKED", revoked=revoked("s1", -DAY)),
        row("revoked-holder-fails-by-crl", "crl", "4.1", "REVOKED", revoked=revoked("s1", -DAY)),
        row("revoked-authority-is-refused", "detached", "4.2", "REVOKED_CA_NO_POE", revoked=revoked("ca", -DAY)),
        row("revoked-authority-by-crl", "crl", "4.2", "REVOKED_CA_NO_POE", revoked=revoked("ca", -DAY)),
        row("claimed-time-proves-nothing", "hour", "4.1", "REVOKED", revoked=revoked("s1", CLAIMED + 5 * MINUTE)),
        row("claimed-time-proves-nothing-later", "later-fresh", "4.1", "REVOKED_NO_POE",
            revoked=revoked("s1", CLAIMED + 5 * MINUTE)),
        row("revoked-later-without-proof", "later-fresh", "4.1", "REVOKED_NO_POE", revoked=revoked("s1", DAY)),
        row("authority-revoked-later-without-proof", "later-fresh", "4.2", "REVOKED_CA_NO_POE",
            revoked=revoked("ca", DAY)),
        row("revoked-before-the-proven-time", "later-proven", "4.1", "REVOKED", revoked=revoked("s1", -DAY)),
        row("revoked-before-the-stamp", "later-stamped", "4.1", "REVOKED", revoked=revoked("s1", -HOUR)),
        row("revoked-counter-signer-fails", "countered", "4.3", "REVOKED_NO_POE", revoked=revoked("s1.c1", -DAY)),
        row("revoked-second-signer-fails", "parallel", "4.3", "REVOKED", revoked=revoked("s2", -DAY)),
        row("revoked-tsa-proves-nothing", "P2", "4.3", "REVOKED_NO_POE", revoked=revoked("tsa", -DAY)),
        row("expired-later-without-proof", "later-fresh", "3.1.7", "OUT_OF_BOUNDS_NO_POE", at=2000 * DAY),
        row("revoked-after-the-stamp-before-reception", "P2", "4.1", "REVOKED", revoked=revoked("s1", STAMPED + MINUTE)),
        row("other-signers-stamp-proves-nothing", "later-parallel", "4.1", "REVOKED_NO_POE", revoked=revoked("s2", DAY)),
        row("stamp-proves-no-counter-signature", "later-countered", "4.3", "REVOKED_NO_POE",
            revoked=revoked("s1.c1", DAY)),
        row("revoked-tsa-proves-nothing-later", "later-stamped", "4.3", "REVOKED_NO_POE", revoked=revoked("tsa", -DAY)),
        row("compromised-tsa-proves-nothing-later", "later-stamped", "4.3", "REVOKED_NO_POE", revoked=revoked("tsa", DAY)),
        row("authority-revoked-before-the-stamp", "later-stamped", "4.2", "REVOKED_CA_NO_POE",
            revoked=revoked("ca", -DAY)),
        row("long-silence-is-no-answer", "later-P2", "5.1", "TRY_LATER", at=2000 * DAY),
        row("a-stamp-within-two-hours-is-needed", "P2", "3.1.14", "SIG_CONSTRAINTS_FAILURE",
            signers=(SignerPlan(level="P2", claimed=STAMPED - 3 * HOUR),)),
        row("suspended-is-not-valid", "suspended-later", "4.1", "REVOKED", at=DAY),
        row("revoked-after-what-is-embedded", "P4", "4.1", "REVOKED", revoked=revoked("s1", FETCHED + MINUTE)),
        row("tsa-compromised-after-the-stamp", "P2", "4.3", "REVOKED_NO_POE", revoked=revoked("tsa", STAMPED + MINUTE)),
        row("stored-answer-speaks-of-the-proven-time", "later-stored", "5.1", "TRY_LATER", asked=-2 * HOUR),
        row("silence-later-is-no-answer", "later-P2", "5.1", "TRY_LATER", network="none"),
        row("tsa-expired-since-and-nothing-renews-it", "later-month", "3.1.13.1", "OUT_OF_BOUNDS_NO_POE", at=40 * DAY),
        row("algorithm-table-ends-where-told", "2028", "3.1.5", "CRYPTO_CONSTRAINTS_FAILURE",
            policy=(("algorithms", ENDING),)),
        row("algorithm-ended-without-proof", "later-2028", "3.1.5", "CRYPTO_CONSTRAINTS_FAILURE_NO_POE",
            policy=(("algorithms", ENDING),)),
        row("silence-is-no-answer", "detached", "5.1", "TRY_LATER", network="none"),
        row("claimed-time-is-not-ahead", "detached", "3.1.6", "SIG_CONSTRAINTS_FAILURE",
            signers=(SignerPlan(claimed=6 * MINUTE),)),
        row("sha1-is-refused", "sha256", "3.1.5", "CRYPTO_CONSTRAINTS_FAILURE", signers=(SignerPlan(digest="sha1"),)),
        row("sha224-is-refused", "sha256", "3.1.5", "CRYPTO_CONSTRAINTS_FAILURE",
            signers=(SignerPlan(digest="sha224"),)),
        row("attributes-are-in-order", "detached", "3.1.1", "FORMAT_FAILURE", signers=(SignerPlan(ordered=False),)),
        row("intermediates-come-along", "detached", "3.1.7", "NO_CERTIFICATE_CHAIN_FOUND", chain=False),
        row("ed25519-is-refused", "detached", "3.1.4", "CRYPTO_CONSTRAINTS_FAILURE",
            signers=(SignerPlan(key="ed25519"),)),
        row("p4-asks-ocsp-at-reception", "P4-two-hours", "5.1", "TRY_LATER", network="crl"),
        row("p4-embeds-ocsp-for-the-holder", "P4", "3.1.15.4", "SIG_CONSTRAINTS_FAILURE",
            signers=(SignerPlan(level="P4", ocsp_for_holder=False),)),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """One row on one twin."""

    name: str
    row: Row
    twin: Plan

    @property
    def plan(self) -> Plan:
        if self.row.spoil:
            return replace(self.twin, spoil=self.row.spoil)
        return replace(self.twin, **dict(self.row.change))  # type: ignore[arg-type]

    @property
    def sub(self) -> SubIndication:
        return SubIndication(self.row.sub)

    @property
    def verdict(self) -> Verdict:
        return Verdict.FAILED if self.row.sub in CERTAIN else Verdict.INDETERMINATE


def _cases() -> dict[str, Case]:
    rows = _circumstances()
    for text in (_CMS, _CERTIFICATE, _REVOCATION, _MESSAGE, ADES_ROWS):
        rows += _rows(text)
    found = {}
    for row in rows:
        twins = row.twins.split(",")
        for twin in twins:
            name = row.rule if len(twins) == 1 else f"{row.rule}[{twin}]"
            assert name not in found, name
            found[name] = Case(name, row, TWINS[twin])
    return found


CASES: Final[Mapping[str, Case]] = _cases()
