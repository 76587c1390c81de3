"""What a refusal of a whole message looks like: the same code, texts and reason everywhere."""

from evidence.model.records import EvidenceKind
from kephs.domain.refusals import TEXTS, RefusalCode
from tests.functional.site import Answer, Holder, Site

_FOLD = str.maketrans("çğıöşüâîûÇĞİÖŞÜÂÎÛ", "cgiosuaiuCGIOSUAIU")


def check_refusal(site: Site, sender: Holder, answer: Answer, code: RefusalCode) -> None:
    public = TEXTS[code]
    assert (answer.code, answer.enhanced, answer.stable_code) == (public.smtp, public.enhanced, code.value)
    assert public.english.translate(_FOLD) in answer.text
    assert public.turkish.translate(_FOLD) in answer.text
    assert answer.evidence_id
    _, check = site.receipt(sender, answer.evidence_id)
    record = check.record
    assert record is not None
    assert record.kind is EvidenceKind.SUBMISSION_REJECTION
    assert [reason.code for reason in record.reasons] == [public.reason]
    assert record.reasons[0].details.startswith(code.value)
    assert record.sender.address == sender.address
