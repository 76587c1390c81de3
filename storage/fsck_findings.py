"""What fsck can find, by stable code."""

from dataclasses import dataclass
from enum import StrEnum

from storage.survey import UnreadableRow


class FindingCode(StrEnum):
    """What can be wrong. Stable: scripts and tests compare these."""

    MESSAGE_WITHOUT_EVIDENCE = "message.without_evidence"
    MESSAGE_WITHOUT_ACCOUNT = "message.without_account"
    MESSAGE_WITHOUT_DISPATCH = "message.without_dispatch"
    MESSAGE_ACCEPTED_AND_REFUSED = "message.accepted_and_refused"
    MESSAGE_COMPLETED_EARLY = "message.completed_early"
    MESSAGE_STUCK = "message.stuck"
    MESSAGE_REFUSED_WITH_DELIVERIES = "message.refused_with_deliveries"
    MESSAGE_WITHOUT_DELIVERY = "message.without_delivery"
    MESSAGE_CONTENT_MISSING = "message.content_missing"
    DELIVERY_WITHOUT_MESSAGE = "delivery.without_message"
    DELIVERY_WITHOUT_EVIDENCE = "delivery.without_evidence"
    DELIVERY_EVIDENCE_EARLY = "delivery.evidence_early"
    DELIVERY_CONTRADICTED = "delivery.contradicted"
    DELIVERY_OTHER_RECIPIENT = "delivery.other_recipient"
    DELIVERY_OTHER_ACCOUNT = "delivery.other_account"
    DELIVERY_OTHER_PEER = "delivery.other_peer"
    DELIVERY_OTHER_TIME = "delivery.other_time"
    DELIVERY_NOT_FILED = "delivery.not_filed"
    DELIVERY_FILED_EARLY = "delivery.filed_early"
    DELIVERY_DOUBLED = "delivery.doubled"
    EVIDENCE_WITHOUT_MESSAGE = "evidence.without_message"
    EVIDENCE_WITHOUT_DELIVERY = "evidence.without_delivery"
    EVIDENCE_CONTENT_MISSING = "evidence.content_missing"
    EVIDENCE_CONTENT_ALTERED = "evidence.content_altered"
    EVIDENCE_NOT_XML = "evidence.not_xml"
    EVIDENCE_OTHER_FACTS = "evidence.other_facts"
    EVIDENCE_OTHER_MAKER = "evidence.other_maker"
    EVIDENCE_WITHOUT_RECEIPT = "evidence.without_receipt"
    EVIDENCE_UNSTAMPED = "evidence.unstamped"
    EVIDENCE_WITHOUT_PROOF = "evidence.without_proof"
    EVIDENCE_PROOF_BROKEN = "evidence.proof_broken"
    EVIDENCE_NOT_IN_LEDGER = "evidence.not_in_ledger"
    TRANSFER_WITHOUT_MESSAGE = "transfer.without_message"
    TRANSFER_WITHOUT_EVIDENCE = "transfer.without_evidence"
    TRANSFER_MISSING = "transfer.missing"
    TRANSFER_OTHER_PEER = "transfer.other_peer"
    TRANSFER_OTHER_STATE = "transfer.other_state"
    TRANSFER_STUCK = "transfer.stuck"
    TRANSFER_CONTENT_MISSING = "transfer.content_missing"
    LEDGER_GAP = "ledger.gap"
    LEDGER_BROKEN = "ledger.broken"
    LEDGER_UNKNOWN_EVIDENCE = "ledger.unknown_evidence"
    LEDGER_OTHER_DIGEST = "ledger.other_digest"
    LEDGER_OTHER_TIME = "ledger.other_time"
    LEDGER_DOUBLED = "ledger.doubled"
    LEDGER_SALT = "ledger.salt"
    LEDGER_SHORT = "ledger.short"
    LEDGER_ENTERED_LATE = "ledger.entered_late"
    TREE_OTHER_LEAF = "tree.other_leaf"
    TREE_TILE_MISSING = "tree.tile_missing"
    TREE_TILE_EXTRA = "tree.tile_extra"
    TREE_OTHER_TILE = "tree.other_tile"
    TREE_OTHER_ROOT = "tree.other_root"
    CHECKPOINT_UNSIGNED = "checkpoint.unsigned"
    CHECKPOINT_OTHER_FACTS = "checkpoint.other_facts"
    CHECKPOINT_OTHER_TIME = "checkpoint.other_time"
    ITEM_CONTENT_MISSING = "item.content_missing"
    ITEM_CONTENT_ALTERED = "item.content_altered"
    ITEM_WITHOUT_DELIVERY = "item.without_delivery"
    ITEM_OTHER_ACCOUNT = "item.other_account"
    ITEM_OTHER_CONTENT = "item.other_content"
    ITEM_UNGATED = "item.ungated"
    FOLDER_COUNTERS = "folder.counters"
    ACCOUNT_USAGE = "account.usage"
    ACCOUNT_WITHOUT_HOLDER = "account.without_holder"
    ACCOUNT_WITHOUT_FOLDER = "account.without_folder"
    AUDIT_BROKEN = "audit.broken"
    AUDIT_OTHER_ANCHOR = "audit.other_anchor"
    AUDIT_BACK_DATED = "audit.back_dated"
    ANCHOR_UNRECORDED = "anchor.unrecorded"
    ANCHOR_UNCONFIRMED = "anchor.unconfirmed"
    CERTIFICATE_OTHER_OPERATOR = "certificate.other_operator"
    CERTIFICATE_OTHER_DIGEST = "certificate.other_digest"
    CERTIFICATE_OTHER_TIME = "certificate.other_time"
    ROW_UNREADABLE = "row.unreadable"
    BLOBS_ORPHANED = "blobs.orphaned"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not hold. ``subject`` is the row's id; harmless ones are for information."""

    code: FindingCode
    subject: str
    detail: str = ""
    harmless: bool = False


def unreadable(row: UnreadableRow) -> Finding:
    """Return the finding about a row that does not decode; its subject is ``table:id``."""
    return Finding(FindingCode.ROW_UNREADABLE, f"{row.table}:{row.key}", row.cause)
