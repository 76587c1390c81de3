"""The negative matrix, second half: profiles, time stamps, several signers."""

from typing import Final

_PROFILES: Final = """
# rule                                  twins       spoil                       step      sub-indication
policy-is-known                         P2,P3,P4    policy-unknown              3.1.12    SIGNATURE_POLICY_NOT_AVAILABLE
policy-hash-is-the-documents            P2,P3,P4    policy-hash-other           3.1.12    SIG_CONSTRAINTS_FAILURE
policy-hash-is-not-sha1                 P4          policy-hash-sha1            3.1.12    SIG_CONSTRAINTS_FAILURE
policy-uri-is-there                     P2,P4       policy-uri-missing          3.1.12    SIG_CONSTRAINTS_FAILURE
policy-uri-is-the-policys               P4          policy-uri-other            3.1.12    SIG_CONSTRAINTS_FAILURE
policy-id-is-well-formed                P2          policy-malformed            3.1.12    SIG_CONSTRAINTS_FAILURE
policy-is-explicit                      P2          policy-implied              3.1.12    SIGNATURE_POLICY_NOT_AVAILABLE
profiles-ask-a-signing-time             P2,P3,P4    time-missing                3.1.12    SIG_CONSTRAINTS_FAILURE
profiles-ask-a-stamp                    P2,P3,P4    stamp-missing               3.1.13    SIG_CONSTRAINTS_FAILURE
certificate-refs-are-there              P3,P4       cert-refs-missing           3.1.15.1  SIG_CONSTRAINTS_FAILURE
certificate-ref-matches-a-value         P3,P4       cert-ref-wrong              3.1.15.1  SIG_CONSTRAINTS_FAILURE
certificate-ref-names-its-serial        P4          cert-ref-serial-wrong       3.1.15.1  SIG_CONSTRAINTS_FAILURE
certificate-ref-of-the-authority        P3,P4       cert-ref-for-ca-missing     3.1.15.1  SIG_CONSTRAINTS_FAILURE
certificate-ref-of-the-root             P4          cert-ref-for-root-missing   3.1.15.1  SIG_CONSTRAINTS_FAILURE
certificate-refs-are-well-formed        P4          cert-ref-malformed          3.1.15.1  SIG_CONSTRAINTS_FAILURE
revocation-refs-are-there               P3,P4       revocation-refs-missing     3.1.15.2  SIG_CONSTRAINTS_FAILURE
revocation-ref-matches-a-value          P3,P4       revocation-ref-wrong        3.1.15.2  SIG_CONSTRAINTS_FAILURE
revocation-ref-of-the-holder            P3,P4       revocation-ref-for-holder-missing 3.1.15.2 SIG_CONSTRAINTS_FAILURE
revocation-ref-of-the-authority         P3,P4       revocation-ref-for-ca-missing 3.1.15.2 SIG_CONSTRAINTS_FAILURE
certificate-values-are-there            P3,P4       cert-values-missing         3.1.15.3  SIG_CONSTRAINTS_FAILURE
certificate-value-matches-a-ref         P4          cert-value-more             3.1.15.3  SIG_CONSTRAINTS_FAILURE
revocation-value-matches-a-ref          P4          revocation-value-more       3.1.15.4  SIG_CONSTRAINTS_FAILURE
embedded-ocsp-is-well-signed            P4          embedded-ocsp-badly-signed  3.1.15.4  SIG_CONSTRAINTS_FAILURE
embedded-ocsp-speaks-of-the-holder      P4          embedded-ocsp-other-serial  3.1.15.4  SIG_CONSTRAINTS_FAILURE
embedded-ocsp-knows-the-holder          P4          embedded-ocsp-unknown       3.1.15.4  SIG_CONSTRAINTS_FAILURE
embedded-ocsp-says-revoked              P4          embedded-ocsp-revoked       4.1       REVOKED
embedded-ocsp-is-after-the-signature    P4          embedded-ocsp-early         3.1.15.4  SIG_CONSTRAINTS_FAILURE
embedded-crl-is-well-signed             P3,P4       embedded-crl-badly-signed   3.1.15.4  SIG_CONSTRAINTS_FAILURE
tsa-root-is-embedded                    P3,P4       tsa-root-not-embedded       3.1.15.5  SIG_CONSTRAINTS_FAILURE
tsa-crl-is-embedded                     P3,P4       tsa-crl-not-embedded        3.1.15.5  SIG_CONSTRAINTS_FAILURE
crl-of-the-tsas-authority-is-embedded   P4          tsa-ca-crl-not-embedded     3.1.15.5  SIG_CONSTRAINTS_FAILURE
"""

_MISSING_VALUES: Final = """
certificate-value-of-the-authority      P3,P4       cert-value-for-ca-missing   3.1.15.3  SIG_CONSTRAINTS_FAILURE
certificate-value-of-the-root           P4          cert-value-for-root-missing 3.1.15.3  SIG_CONSTRAINTS_FAILURE
certificate-value-is-the-right-one      P3,P4       cert-value-wrong            3.1.15.3  SIG_CONSTRAINTS_FAILURE
revocation-values-are-there             P3,P4       revocation-values-missing   3.1.15.4  SIG_CONSTRAINTS_FAILURE
revocation-value-of-the-holder          P3,P4       revocation-value-for-holder-missing 3.1.15.4 SIG_CONSTRAINTS_FAILURE
revocation-value-of-the-authority       P3,P4       revocation-value-for-ca-missing 3.1.15.4 SIG_CONSTRAINTS_FAILURE
revocation-value-is-the-right-one       P3,P4       revocation-value-wrong      3.1.15.4  SIG_CONSTRAINTS_FAILURE
"""

_STAMPS: Final = """
stamp-is-of-the-signature-value         P2,P4,T     imprint-altered             3.1.13.1  HASH_FAILURE
stamp-is-not-of-the-content             P2          imprint-of-content          3.1.13.1  HASH_FAILURE
stamp-imprint-is-not-sha1               P2          imprint-sha1                3.1.13.1  FORMAT_FAILURE
stamp-is-well-signed                    P2,P4,T     token-value-altered         3.1.13.1  SIG_CRYPTO_FAILURE
stamps-digest-is-of-its-info            P2          token-digest-altered        3.1.13.1  HASH_FAILURE
stamp-has-ess-v2                        P2          token-ess-missing           3.1.13.1  FORMAT_FAILURE
stamp-is-a-token                        P2          token-malformed             3.1.13.1  FORMAT_FAILURE
nothing-follows-the-token               P2          token-trailing              3.1.13.1  FORMAT_FAILURE
every-stamp-must-hold                   TT          second-token-altered        3.1.13.2  SIG_CRYPTO_FAILURE
tsa-is-not-expired                      P2          tsa-expired                 3.1.13.1  EXPIRED
tsa-is-valid-already                    P2          tsa-not-yet-valid           3.1.13.1  NOT_YET_VALID
tsa-has-its-usage                       P2          tsa-no-usage                3.1.13.1  CHAIN_CONSTRAINTS_FAILURE
tsa-usage-is-critical                   P2,P4       tsa-usage-not-critical      3.1.13.1  CHAIN_CONSTRAINTS_FAILURE
tsa-usage-is-the-only-one               P2          tsa-usage-more              3.1.13.1  CHAIN_CONSTRAINTS_FAILURE
tsa-leads-to-a-configured-root          P2,T        tsa-unknown                 3.1.13.1  NO_CERTIFICATE_CHAIN_FOUND
tsa-key-is-long-enough                  P2          tsa-rsa1024                 3.1.13.1  CRYPTO_CONSTRAINTS_FAILURE
tsas-authority-comes-along              P2,P4       tsa-ca-not-embedded         3.1.13.1  NO_CERTIFICATE_CHAIN_FOUND
same-name-impostor-is-no-tsa            P2          tsa-impostor                3.1.13.1  NO_CERTIFICATE_CHAIN_FOUND
stamp-within-two-hours                  P2,P3,P4    stamp-after-two-hours       3.1.14    SIG_CONSTRAINTS_FAILURE
stamp-is-after-the-signature            P2          stamp-before-signing        3.1.14    TIMESTAMP_ORDER_FAILURE
stamp-is-not-of-the-future              P2          stamp-in-future             3.1.14  TIMESTAMP_ORDER_FAILURE
archive-index-is-of-what-is-there       A           archive-index-altered       3.1.16.1  HASH_FAILURE
archive-index-is-of-attributes-there     A           archive-index-of-other-attribute 3.1.16.1 HASH_FAILURE
archive-imprint-is-of-the-signature     A           archive-imprint-altered     3.1.16.1  HASH_FAILURE
archive-stamp-is-well-signed            A           archive-token-altered       3.1.16.1  SIG_CRYPTO_FAILURE
"""

_SIGNERS: Final = """
second-signer-value-verifies            parallel    second-value-altered        3.2.4     SIG_CRYPTO_FAILURE
second-signer-signed-this-content       parallel    second-digest-altered       3.2.2     HASH_FAILURE
second-signer-is-qualified              parallel    second-no-btk               3.2.8     CHAIN_CONSTRAINTS_FAILURE
second-signer-is-not-expired            parallel    second-expired              3.2.7     EXPIRED
counter-digest-is-of-the-value          countered   counter-digest-altered      3.1.11.1  HASH_FAILURE
counter-value-verifies                  countered   counter-value-altered       3.1.11.1  SIG_CRYPTO_FAILURE
counter-has-no-content-type             countered   counter-with-content-type   3.1.11.1  FORMAT_FAILURE
counter-has-ess-v2                      countered   counter-ess-missing         3.1.11.1  FORMAT_FAILURE
counter-certificate-is-embedded         countered   counter-not-embedded        3.1.11.1  NO_SIGNING_CERTIFICATE_FOUND
counter-is-a-signer                     countered   counter-malformed           3.1.11.1  FORMAT_FAILURE
counter-leads-to-a-root                 countered   counter-impostor            3.1.11.1  NO_CERTIFICATE_CHAIN_FOUND
counter-signer-is-not-expired           countered   counter-expired             3.1.11.1  EXPIRED
counter-key-is-long-enough              countered   counter-rsa1024             3.1.11.1  CRYPTO_CONSTRAINTS_FAILURE
counter-signatures-are-few              countered   counter-hundred             3.1.11    FORMAT_FAILURE
nested-counter-digest-is-of-its-parent  nested      nested-digest-altered       3.1.11.1.11.1 HASH_FAILURE
nested-counter-value-verifies           nested      nested-value-altered        3.1.11.1.11.1 SIG_CRYPTO_FAILURE
"""

ADES_ROWS: Final = _PROFILES + _MISSING_VALUES + _STAMPS + _SIGNERS
