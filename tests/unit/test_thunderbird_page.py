"""docs/thunderbird.md names only codes that exist, and every code that a sender can be answered with."""

import re
from pathlib import Path

from evidence.adapters.pkcs11_card import CardFault
from kephs.domain.refusal_codes import RefusalCode

PAGE = Path(__file__).parents[2] / "docs" / "thunderbird.md"
BETWEEN_PROVIDERS = frozenset(
    {
        RefusalCode.NOT_A_KEP_MESSAGE, RefusalCode.SEAL_BROKEN, RefusalCode.SEAL_NOT_REGISTERED,
        RefusalCode.SEAL_REVOKED, RefusalCode.SEAL_EXPIRED, RefusalCode.EVIDENCE_NOT_THE_PEERS,
        RefusalCode.ORIGINAL_DIFFERS, RefusalCode.RECEIPT_UNMATCHED, RefusalCode.MAIL_LOOP,
        RefusalCode.NOT_SERVED_HERE, RefusalCode.TLS_REQUIRED, RefusalCode.CLOCK_DIFFERS,
        RefusalCode.REGISTER_NOT_CURRENT,
    }
)  # fmt: skip
OF_THE_ACCOUNT = frozenset(
    {
        RefusalCode.ACCOUNT_BLOCKED, RefusalCode.ACCOUNT_RECEIVE_ONLY, RefusalCode.NO_RIGHT_TO_SEND,
        RefusalCode.RECIPIENT_UNKNOWN, RefusalCode.RECIPIENT_BLOCKED, RefusalCode.PROVIDER_UNKNOWN,
        RefusalCode.TOO_MANY_RECIPIENTS, RefusalCode.MALWARE,
    }
)  # fmt: skip
"""Their own text says all there is to say; no mail program has to do with them."""


def section(number: int) -> str:
    text = PAGE.read_text("utf-8")
    return text.split(f"\n## {number}. ")[1].split("\n## ")[0]


def test_the_table_of_answers_names_each_code_of_a_sender_once():
    rows = [line.split("|")[1] for line in section(6).splitlines() if line.startswith("| `")]
    named = [code for row in rows for code in re.findall(r"`([a-z-]+)`", row)]
    assert len(named) == len(set(named))
    assert set(named) == set(RefusalCode) - BETWEEN_PROVIDERS - OF_THE_ACCOUNT


def test_the_codes_of_kephs_sign_are_those_of_cards():
    paragraph = section(6).split("`kephs sign` itself:")[1]
    named = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", paragraph))
    assert named <= {fault.value for fault in CardFault}
    assert len(named) > 8
