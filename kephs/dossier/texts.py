"""The dossier's words in Turkish and English. They say no more than the evidence does."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from evidence.report import Verdict
from kephs.domain.lifecycle import DeliveryState, MessageState
from kephs.dossier.facts import Language, Relationship
from kephs.usecases.proof.timeline import Stamp

Both = tuple[str, str]  # Turkish, English


def said(text: Both, language: Language) -> str:
    """Return the text in one language."""
    return text[1] if language is Language.ENGLISH else text[0]


WORDS: Final[Mapping[str, Both]] = MappingProxyType(
    {
        "dossier": ("Dava dosyası", "Court dossier"),
        "about": (
            "Bir kayıtlı elektronik posta (KEP) iletisi ve delilleri",
            "One registered e-mail (KEP) message and its evidence",
        ),
        "contents": ("İçindekiler", "Contents"),
        "cover": ("Kapak", "Cover"),
        "parties": ("Taraflar", "Parties"),
        "timeline": ("Zaman çizelgesi", "Timeline"),
        "content": ("İletinin içeriği", "Content of the message"),
        "signature": ("Göndericinin imzası", "The sender's signature"),
        "ledger": ("Delil kayıt defteri", "Evidence ledger"),
        "judge": ("Hâkim için: bu dosya nasıl denetlenir", "For the judge: how to check this dossier"),
        "files": ("Ekli dosyalar", "Attached files"),
        "message_id": ("KEP ileti no", "Message id"),
        "user_message_id": ("Message-ID (gönderen)", "Message-ID (sender's)"),
        "subject": ("Konu", "Subject"),
        "no_subject": ("(konu yok)", "(no subject)"),
        "sender": ("Gönderici", "Sender"),
        "recipient": ("Alıcı", "Recipient"),
        "recipients": ("Alıcılar", "Recipients"),
        "recipient_count": ("Alıcı sayısı", "Recipients"),
        "and_more": ("ve {} alıcı daha", "and {} more recipients"),
        "provider": ("KEPHS", "Provider"),
        "senders_provider": ("Göndericinin KEPHS'si", "Sender's provider"),
        "issued_by": ("Dosyayı hazırlayan", "Dossier made by"),
        "address": ("KEP adresi", "Address"),
        "name": ("Ad", "Name"),
        "state": ("Durum", "State"),
        "submitted": ("Verildiği an", "Handed in"),
        "sealed": ("Delil paketinin mühürlendiği an", "Evidence bundle sealed"),
        "size": ("Boyut", "Size"),
        "bytes": ("bayt", "bytes"),
        "digest": ("SHA-256 özeti", "SHA-256 digest"),
        "original_digest": ("Orijinal iletinin SHA-256 özeti", "SHA-256 of the original message"),
        "times": (
            "Bütün saatler Türkiye saatidir (UTC+3).",
            "All times are those of Türkiye (UTC+3).",
        ),
        "face": (
            (
                "Bu PDF, eklerindeki imzalı dosyaların okunabilir yüzüdür; kendisi imzalı değildir. "
                "Delil olan, ekli dosyalardır."
            ),
            (
                "This PDF is the readable face of the signed files attached to it and is not signed itself. "
                "What is evidence are the attached files."
            ),
        ),
        "test": (
            "TEST SERTİFİKALARI İLE YAPILMIŞTIR: HUKUKİ DEĞERİ YOKTUR",
            "MADE WITH TEST CERTIFICATES: WITHOUT LEGAL VALUE",
        ),
        "test_short": ("TEST: hukuki değeri yoktur", "TEST: without legal value"),
        "whole": ("İletinin tamamı", "The message as a whole"),
        "proves": ("Kanıtlar", "Proves"),
        "does_not": ("Kanıtlamaz", "Does not prove"),
        "meanings": ("Delillerin anlamı", "What each evidence means"),
        "meanings_lead": (
            "Aşağıdaki çizelgelerdeki her kod için: delil neyi kanıtlar, neyi kanıtlamaz.",
            "For each code in the tables below: what the evidence proves, and what it does not.",
        ),
        "time": ("Zaman", "Time"),
        "evidence": ("Delil", "Evidence"),
        "issuer": ("Düzenleyen", "Issued by"),
        "reason": ("Neden", "Reason"),
        "who": ("Açan kişi", "Opened by"),
        "evidence_no": ("Delil no", "Evidence id"),
        "ledger_no": ("Kayıt no", "Ledger no."),
        "stamp": ("Zaman damgası", "Time stamp"),
        "beside": (
            "Sonucu değiştirmeyen ek delil; ikisi de saklanır.",
            "Stands beside the evidence that decided; both are kept.",
        ),
        "no_events": ("Henüz delil yok.", "No evidence yet."),
        "awaited": ("Bekleniyor", "Awaited"),
        "until": ("en geç", "until"),
        "then": ("gelmezse", "if none comes"),
        "elsewhere": (
            "Bu alıcı başka bir KEPHS'nindir; delilleri göndericinin KEPHS'sindedir.",
            "Another provider's recipient; the evidence about them is with the sender's provider.",
        ),
        "part": ("Bölüm", "Part"),
        "parts": ("Bölümler ve ekler", "Parts and attachments"),
        "parts_lead": (
            (
                "Özet, bölüm kaydedildiğinde elde edilen dosyanındır (aktarım kodlaması çözülmüş); "
                "sha256sum ile karşılaştırılabilir."
            ),
            (
                "The digest is that of the file one gets by saving the part (transfer encoding removed); "
                "compare it with sha256sum."
            ),
        ),
        "parts_more": (
            "{} bölüm daha var; hepsi dosya.json içindedir.",
            "There are {} more parts; all of them stand in dosya.json.",
        ),
        "file": ("Dosya", "File"),
        "type": ("Tür", "Type"),
        "is_signature": ("göndericinin imzası", "the sender's signature"),
        "text": ("Metin", "Text"),
        "text_lead": (
            "İletinin ilk düz metin bölümü. Bağlayıcı olan, ekteki original.eml dosyasıdır.",
            "The first plain text of the message. What counts is the attached original.eml.",
        ),
        "text_cut": (
            "Metin burada kesilmiştir; tamamı original.eml dosyasındadır.",
            "The text is cut here; all of it is in original.eml.",
        ),
        "no_text": (
            "İletinin basılabilecek düz metin bölümü yok; içeriği ekteki original.eml dosyasındadır.",
            "The message has no plain text that could be printed; see the attached original.eml.",
        ),
        "hidden": (
            "Görünmeyen ya da yazı tipinde bulunmayan karakterler kodlarıyla yazılmıştır: [U+202E] gibi.",
            "Characters that cannot be seen or that the font lacks are written as their code: [U+202E].",
        ),
        "report_lead": (
            "KEPHS'nin ileti kabul edilirken verdiği ve sakladığı karar (imza-rapor.json).",
            "The provider's verdict when it took the message in, as it was kept (imza-rapor.json).",
        ),
        "report_stamped": (
            "İmzanın kabul anında var olduğunu, paketteki imza.ers zaman damgası kanıtlar.",
            "The time stamp imza.ers in the bundle proves that the signature existed at reception.",
        ),
        "no_report": (
            (
                "Bu ileti bize başka bir KEPHS'den geldi ya da kabul edilmedi: göndericinin imzasını "
                "denetleyen, göndericinin KEPHS'sidir. İmza, original.eml dosyasındadır."
            ),
            (
                "This message was relayed to us or not accepted: the sender's signature was checked by the "
                "sender's provider. The signature is in original.eml."
            ),
        ),
        "verdict": ("Sonuç", "Verdict"),
        "checked_at": ("Denetim zamanı", "Checked at"),
        "signer": ("İmzacı", "Signer"),
        "certificate_issuer": ("Sertifikayı veren", "Certificate issued by"),
        "serial": ("Seri no", "Serial number"),
        "not_after": ("Sertifikanın sonu", "Certificate ends"),
        "signing_time": ("Beyan edilen imza zamanı", "Claimed signing time"),
        "fingerprint": ("Sertifika parmak izi (SHA-256)", "Certificate fingerprint (SHA-256)"),
        "step": ("Adım", "Step"),
        "check": ("Denetim", "Check"),
        "result": ("Sonuç", "Result"),
        "held": ("tutuyor", "holds"),
        "note": ("not", "note"),
        "detail": ("Ayrıntı", "Detail"),
        "broken": ("TUTMUYOR", "DOES NOT HOLD"),
        "ledger_lead": (
            (
                "KEPHS her delili yalnız eklenebilen bir kayıt defterine yazar (RFC 9162 özet ağacı). "
                "Paketteki kayit/*.proof dosyaları, her delilin aşağıdaki imzalı kök içinde bulunduğunu "
                "kanıtlar."
            ),
            (
                "The provider writes every evidence into a ledger that can only be appended to (a hash tree, "
                "RFC 9162). The files kayit/*.proof prove that each evidence is under the signed root below."
            ),
        ),
        "log": ("Defter", "Ledger"),
        "log_size": ("Kayıt sayısı", "Entries"),
        "log_root": ("Kök özeti", "Root hash"),
        "log_signers": ("İmzalayanlar", "Signed by"),
        "no_ledger": (
            "Bu pakette kayıt defteri kanıtı yok.",
            "This bundle has no proofs of the ledger.",
        ),
        "carried": ("iletide geldi", "came with the message"),
        "purpose": ("Ne için", "Purpose"),
        "files_lead": (
            "PDF'in içindedirler; PDF okuyucunun ekler (ataç) bölümünden kaydedilir.",
            "They are inside the PDF; save them from the attachments (paper clip) pane of a PDF reader.",
        ),
        "roots": ("Kök sertifikalar (bilgi)", "Root certificates (information)"),
        "roots_lead": (
            "Bu parmak izlerini yetkili makamların ilanıyla karşılaştırın; güven bu dosyadan alınmaz.",
            "Compare these fingerprints with what the authorities publish; trust never comes from this file.",
        ),
        "page": ("Sayfa", "Page"),
    }
)

MESSAGE_STATES: Final[Mapping[MessageState, Both]] = MappingProxyType(
    {
        MessageState.RECEIVED: ("işleniyor", "being taken in"),
        MessageState.ACCEPTED: ("kabul edildi, sonuç bekleniyor", "accepted, outcomes awaited"),
        MessageState.REFUSED: ("kabul edilmedi", "refused"),
        MessageState.COMPLETED: ("her alıcı için sonuçlandı", "decided for every recipient"),
    }
)
STATES: Final[Mapping[DeliveryState | None, Both]] = MappingProxyType(
    {
        DeliveryState.PENDING: ("henüz teslim edilmedi", "not delivered yet"),
        DeliveryState.RELAYED: ("alıcının KEPHS'sinde", "with the recipient's provider"),
        DeliveryState.DELIVERED: ("teslim edildi, okunmadı", "delivered, not read"),
        DeliveryState.READ: ("okundu", "read"),
        DeliveryState.FAILED: ("teslim edilemedi", "not delivered"),
        DeliveryState.REJECTED: ("KEPHS'si almadı", "refused by their provider"),
        DeliveryState.UNREACHED: ("KEPHS'sine ulaşılamadı", "their provider was not reached"),
        None: ("durumu burada bilinmiyor", "state not known here"),
    }
)
STAMPS: Final[Mapping[Stamp, Both]] = MappingProxyType(
    {
        Stamp.INSIDE: ("delilin içinde", "inside the evidence"),
        Stamp.BESIDE: ("delilin yanında (.ers)", "beside the evidence (.ers)"),
        Stamp.AWAITED: ("bekleniyor", "awaited"),
        Stamp.NONE: ("yok", "none"),
    }
)
VERDICTS: Final[Mapping[str, Both]] = MappingProxyType(
    {
        Verdict.PASSED.value: ("GEÇERLİ", "VALID"),
        Verdict.FAILED.value: ("GEÇERSİZ", "NOT VALID"),
        Verdict.INDETERMINATE.value: ("BELİRSİZ", "UNDECIDED"),
    }
)
PURPOSES: Final[Mapping[Relationship, Both]] = MappingProxyType(
    {
        Relationship.SOURCE: (
            "Göndericinin imzalayıp verdiği ileti, baytı baytına",
            "What the sender signed and handed in, byte for byte",
        ),
        Relationship.SUPPLEMENT: (
            "Delil paketi: ileti, KEP iletisi, bütün deliller, imzalar, zaman damgaları, kayıt kanıtları",
            "Evidence bundle: message, KEP message, all evidence, signatures, time stamps, ledger proofs",
        ),
        Relationship.DATA: (
            "Bu sayfalardaki bilgilerin bilgisayarla okunur hali",
            "What these pages say, for programs",
        ),
    }
)
STEPS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "outermost body is the signature": "iletinin bütün gövdesi imzalı",
        "what is shown is what was signed": "gösterilen, imzalanandır",
        "signed data": "imza yapısı",
        "signed attributes": "imzalı öznitelikler",
        "message digest": "içeriğin özeti",
        "signing certificate": "imzalama sertifikası",
        "signature value": "imza değeri",
        "algorithms": "algoritmalar",
        "claimed signing time": "beyan edilen imza zamanı",
        "path to a root": "köke giden sertifika yolu",
        "qualified certificate statements": "nitelikli sertifika ibareleri",
        "key usage": "anahtar kullanımı",
        "certificate policies": "sertifika ilkeleri",
        "not revoked": "iptal edilmemiş",
        "revocation status known": "iptal durumu biliniyor",
        "signature time stamps": "imza zaman damgaları",
        "proof of time": "zamanın kanıtı",
    }
)
"""Steps of the verifier in Turkish, by their English names; a name that is not here stands as it is."""
