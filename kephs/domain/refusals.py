"""One table of refusals: SMTP code, enhanced status, evidence reason, Turkish and English text.

spec: rules-in-detail "One table of codes"; RFC 3463, RFC 5248.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from evidence.model.records import ReasonCode
from kephs.domain.refusal_codes import PublicText, RefusalCode

__all__ = ["TEXTS", "PublicText", "Refusal", "RefusalCode"]

_P = ReasonCode.POLICY_VIOLATION
_S = ReasonCode.INVALID_USER_SIGNATURE
_F = ReasonCode.INVALID_MESSAGE_FORMAT

TEXTS: Final[Mapping[RefusalCode, PublicText]] = MappingProxyType(
    {
        RefusalCode.RECIPIENT_UNKNOWN: PublicText(
            550,
            "5.1.1",
            ReasonCode.UNKNOWN_RECIPIENT,
            101,
            "There is no such KEP address. Check the address in the KEP directory.",
            "Böyle bir KEP adresi yok. Adresi KEP rehberinden kontrol edin.",
        ),
        RefusalCode.RECIPIENT_BLOCKED: PublicText(
            550,
            "5.7.1",
            _P,
            102,
            "The recipient's account is blocked and cannot receive now.",
            "Alıcının hesabı bloke; şu anda ileti alamaz.",
        ),
        RefusalCode.RECIPIENT_NOT_KEP: PublicText(
            550,
            "5.1.2",
            _P,
            103,
            "A recipient is not a KEP address. Write to KEP addresses only (name@hsNN.kep.tr).",
            "Alıcılardan biri KEP adresi değil. Yalnız KEP adreslerine gönderin (ad@hsNN.kep.tr).",
        ),
        RefusalCode.PROVIDER_UNKNOWN: PublicText(
            550,
            "5.1.2",
            _P,
            104,
            "A recipient's provider is none that this provider exchanges KEP messages with.",
            "Alıcılardan birinin KEPHS'si, bu KEPHS'nin ileti alışverişi yaptığı bir sağlayıcı değil.",
        ),
        RefusalCode.RECIPIENTS_MISSING: PublicText(
            550,
            "5.1.2",
            _P,
            105,
            "The message names no recipient in To. Add at least one To address.",
            "İletinin Kime alanında alıcı yok. En az bir alıcı ekleyin.",
        ),
        RefusalCode.RECIPIENTS_DIFFER: PublicText(
            550,
            "5.7.1",
            _P,
            106,
            "The recipients given to the server are not those in To and Cc. Send to exactly To and Cc.",
            "Sunucuya verilen alıcılar Kime ve Bilgi alanlarıyla aynı değil. İkisi aynı olmalı.",
        ),
        RefusalCode.TOO_MANY_RECIPIENTS: PublicText(
            550,
            "5.5.3",
            _P,
            107,
            "The message has too many recipients. Send it in several messages.",
            "İletinin alıcısı çok fazla. Birden çok ileti halinde gönderin.",
        ),
        RefusalCode.FROM_DIFFERS: PublicText(
            550,
            "5.7.1",
            _P,
            108,
            "From is not the account that is signed in. Use that account's address in From and as the envelope sender.",
            "Kimden adresi, oturum açan hesabın adresi değil. Kimden alanında ve zarfta o adresi kullanın.",
        ),
        RefusalCode.BCC_PRESENT: PublicText(
            550,
            "5.7.1",
            _P,
            109,
            "Hidden recipients (Bcc) are not allowed. Remove the Bcc field.",
            "Gizli alıcıya izin verilmez. Gizli alanını kaldırın.",
        ),
        RefusalCode.UNSIGNED: PublicText(
            550,
            "5.7.1",
            _S,
            110,
            "The message is not signed. Sign it with your qualified certificate; the signature must be outermost.",
            "İleti imzalı değil. Nitelikli sertifikanızla imzalayın; imza en dışta olmalı.",
        ),
        RefusalCode.SIGNATURE_BROKEN: PublicText(
            550,
            "5.7.7",
            _S,
            111,
            "The signature does not match the message. Sign it again; something changed it on the way.",
            "İmza iletiye uymuyor. Yeniden imzalayın; ileti yolda değişmiş.",
        ),
        RefusalCode.SIGNATURE_INCOMPLETE: PublicText(
            550,
            "5.7.7",
            _S,
            132,
            "The signature is no complete CAdES signature (signing-certificate-v2, strict DER, right time). Sign as CAdES.",
            "İmza eksiksiz bir CAdES imzası değil (signing-certificate-v2, katı DER, doğru zaman). CAdES olarak imzalayın.",
        ),
        RefusalCode.SIGNATURE_UNTRUSTED: PublicText(
            550,
            "5.7.5",
            _S,
            112,
            "The signer's certificate does not lead to a trusted Turkish root.",
            "İmzacının sertifikası güvenilen bir köke bağlanmıyor.",
        ),
        RefusalCode.CERTIFICATE_EXPIRED: PublicText(
            550,
            "5.7.5",
            ReasonCode.USER_CERT_EXPIRED_OR_REVOKED,
            113,
            "The signer's certificate is not valid now: it has expired or has not begun. Renew it and sign again.",
            "İmzacının sertifikası şu anda geçerli değil: süresi dolmuş ya da başlamamış. Yenileyip yeniden imzalayın.",
        ),
        RefusalCode.CERTIFICATE_REVOKED: PublicText(
            550,
            "5.7.5",
            ReasonCode.USER_CERT_EXPIRED_OR_REVOKED,
            114,
            "The signer's certificate has been revoked. Get a new one from your certificate provider.",
            "İmzacının sertifikası iptal edilmiş. Sertifika sağlayıcınızdan yenisini alın.",
        ),
        RefusalCode.CERTIFICATE_NOT_QUALIFIED: PublicText(
            550,
            "5.7.5",
            _S,
            115,
            "The signer's certificate is not a qualified certificate (NES) under law 5070.",
            "İmzacının sertifikası 5070 sayılı Kanuna göre nitelikli sertifika (NES) değil.",
        ),
        RefusalCode.ALGORITHM_NOT_ALLOWED: PublicText(
            550,
            "5.7.5",
            _S,
            116,
            "The signature uses an algorithm or key size that is not allowed.",
            "İmzanın algoritması ya da anahtar boyu izinli değil.",
        ),
        RefusalCode.SIGNER_NOT_AUTHORISED: PublicText(
            550,
            "5.7.1",
            _P,
            117,
            "The signer is neither the holder of this account nor an operator who may send for it.",
            "İmzacı bu hesabın sahibi ya da gönderme yetkisi olan işlem yetkilisi değil.",
        ),
        RefusalCode.CERTIFICATE_WITHDRAWN: PublicText(
            550,
            "5.7.1",
            _P,
            133,
            "The signer's certificate was withdrawn from this account and signs for it no more. Sign with another one.",
            "İmzacının sertifikası bu hesaptan geri alındı; artık hesap adına imzalayamaz. Başka bir sertifikayla imzalayın.",
        ),
        RefusalCode.CERTIFICATE_NOT_BOUND: PublicText(
            550,
            "5.7.1",
            _P,
            134,
            "The signer's certificate is not bound to this account. Bind it by a signed challenge, then send again.",
            "İmzacının sertifikası bu hesaba bağlı değil. İmzalı doğrulama metniyle bağlayın, sonra yeniden gönderin.",
        ),
        RefusalCode.HEADERS_DIFFER: PublicText(
            550,
            "5.7.1",
            _P,
            118,
            "From, To, Cc or Subject outside differ from the signed ones inside.",
            "Dıştaki Kimden, Kime, Bilgi ya da Konu içteki imzalı olandan farklı.",
        ),
        RefusalCode.ACCOUNT_BLOCKED: PublicText(
            550,
            "5.7.1",
            _P,
            119,
            "This account is blocked or closed and cannot send.",
            "Bu hesap bloke ya da kapalı; gönderemez.",
        ),
        RefusalCode.ACCOUNT_RECEIVE_ONLY: PublicText(
            550,
            "5.7.1",
            _P,
            120,
            "This account can only receive (Sadece Alıcı).",
            "Bu hesap yalnız alabilir (Sadece Alıcı).",
        ),
        RefusalCode.NO_RIGHT_TO_SEND: PublicText(
            550,
            "5.7.1",
            _P,
            121,
            "You have no right to send for this account. Ask its main operator.",
            "Bu hesap adına gönderme yetkiniz yok. Ana işlem yetkilisine başvurun.",
        ),
        RefusalCode.OVER_QUOTA: PublicText(
            550,
            "5.7.1",
            _P,
            122,
            "Your mailbox is full: sending stops, receiving goes on. Delete messages or buy space.",
            "Posta kutunuz dolu: gönderme durdu, alma sürüyor. İleti silin ya da alan satın alın.",
        ),
        RefusalCode.MALWARE: PublicText(
            554,
            "5.7.1",
            ReasonCode.MALWARE_FOUND,
            123,
            "Malware was found in the message.",
            "İletide zararlı yazılım bulundu.",
        ),
        RefusalCode.NOT_MIME: PublicText(
            554,
            "5.6.0",
            _F,
            124,
            "The message is not well-formed MIME.",
            "İleti düzgün bir MIME iletisi değil.",
        ),
        RefusalCode.NUL_BYTE: PublicText(
            554, "5.6.0", _F, 125, "The message contains a NUL byte.", "İletide NUL baytı var."
        ),
        RefusalCode.LINE_TOO_LONG: PublicText(
            554,
            "5.6.0",
            _F,
            126,
            "A line is longer than 998 characters. Encode the content (base64, quoted-printable), fold the header, sign again.",
            "Bir satır 998 karakterden uzun. İçeriği kodlayıp (base64, quoted-printable) ya da başlığı bölüp yeniden imzalayın.",
        ),
        RefusalCode.BARE_LINE_ENDING: PublicText(
            521,
            "5.5.2",
            None,
            127,
            "A line ends in a bare CR or LF. Lines must end in CRLF.",
            "Bir satır yalnız CR ya da LF ile bitiyor. Satırlar CRLF ile bitmeli.",
        ),
        RefusalCode.TOO_BIG: PublicText(
            552,
            "5.3.4",
            _P,
            128,
            "Message and attachments exceed 100 MB.",
            "İleti ve ekleri 100 MB sınırını aşıyor.",
        ),
        RefusalCode.TOO_BIG_FOR_PROVIDER: PublicText(
            552,
            "5.3.4",
            _P,
            129,
            "Message and attachments exceed what a recipient's provider takes (25 MB unless agreed otherwise).",
            "İleti ve ekleri, alıcının KEPHS'sinin kabul ettiği boyutu aşıyor (başka anlaşma yoksa 25 MB).",
        ),
        RefusalCode.DUPLICATE_ID: PublicText(
            550,
            "5.7.1",
            _P,
            130,
            "Another message with this Message-ID was accepted before. Give the message a new Message-ID.",
            "Bu Message-ID ile daha önce başka bir ileti kabul edildi. İletiye yeni bir Message-ID verin.",
        ),
        RefusalCode.HEADER_INVALID: PublicText(
            554,
            "5.6.0",
            _F,
            131,
            "The header cannot be used: a field stands twice, or From, To, Cc or Message-ID is not written as RFC 5322 asks.",
            "İletinin başlığı kullanılamıyor: bir alan iki kez var ya da From, To, Cc, Message-ID RFC 5322'ye uygun değil.",
        ),
        RefusalCode.REVOCATION_UNKNOWN: PublicText(
            451,
            "4.7.5",
            None,
            201,
            "The certificate's state cannot be asked now (OCSP and CRL are silent). Nothing was accepted; try again.",
            "Sertifikanın durumu şu anda sorulamıyor (OCSP ve CRL yanıt vermiyor). İleti kabul edilmedi; yeniden deneyin.",
        ),
        RefusalCode.SEALING_UNAVAILABLE: PublicText(
            451,
            "4.3.0",
            None,
            202,
            "Evidence cannot be signed or time-stamped now. Nothing was accepted; try again.",
            "Delil şu anda imzalanamıyor ya da zaman damgası alınamıyor. İleti kabul edilmedi; yeniden deneyin.",
        ),
        RefusalCode.SCANNER_UNAVAILABLE: PublicText(
            451,
            "4.3.0",
            None,
            203,
            "The malware scanner does not answer. Nothing was accepted; try again.",
            "Zararlı yazılım tarayıcısı yanıt vermiyor. İleti kabul edilmedi; yeniden deneyin.",
        ),
        RefusalCode.STORE_UNAVAILABLE: PublicText(
            451,
            "4.3.0",
            None,
            204,
            "The store cannot take the message now. Nothing was accepted; try again.",
            "Depo iletiyi şu anda alamıyor. İleti kabul edilmedi; yeniden deneyin.",
        ),
        RefusalCode.BUSY: PublicText(
            421,
            "4.3.2",
            None,
            205,
            "The server is busy or stopping. Try again.",
            "Sunucu meşgul ya da kapanıyor. Yeniden deneyin.",
        ),
        RefusalCode.NOT_A_KEP_MESSAGE: PublicText(
            550,
            "5.7.1",
            None,
            151,
            "Only sealed KEP messages and receipts of registered providers are taken here.",
            "Burada yalnız kayıtlı sağlayıcıların mühürlü KEP iletileri ve delilleri kabul edilir.",
        ),
        RefusalCode.SEAL_BROKEN: PublicText(
            550,
            "5.7.7",
            None,
            152,
            "The provider's seal does not fit the message. It was changed on its way, or never sealed by that provider.",
            "Sağlayıcının mührü iletiyle uyuşmuyor: ileti yolda değişmiş ya da o sağlayıcı mühürlememiş.",
        ),
        RefusalCode.SEAL_NOT_REGISTERED: PublicText(
            550,
            "5.7.5",
            None,
            153,
            "The sealing certificate is no registered transaction certificate. Register it before sending.",
            "Mühür sertifikası kayıtlı bir işlem sertifikası değil. Göndermeden önce kaydettirin.",
        ),
        RefusalCode.SEAL_REVOKED: PublicText(
            550,
            "5.7.5",
            None,
            154,
            "The sealing certificate is revoked.",
            "Mühür sertifikası iptal edilmiş.",
        ),
        RefusalCode.SEAL_EXPIRED: PublicText(
            550,
            "5.7.5",
            ReasonCode.OTHER,
            155,
            "The sealing certificate was not valid when the message was sealed (RB05).",
            "İleti mühürlendiğinde mühür sertifikası geçerli değildi (RB05).",
        ),
        RefusalCode.EVIDENCE_NOT_THE_PEERS: PublicText(
            550,
            "5.7.7",
            None,
            156,
            "The evidence inside is not valid evidence of the provider that sealed the message.",
            "İçindeki delil, iletiyi mühürleyen sağlayıcının geçerli delili değil.",
        ),
        RefusalCode.ORIGINAL_DIFFERS: PublicText(
            554,
            "5.6.0",
            _F,
            157,
            "The original message is not the one that the evidence is about (RB02).",
            "Orijinal ileti, delilin sözünü ettiği ileti değil (RB02).",
        ),
        RefusalCode.RECEIPT_UNMATCHED: PublicText(
            550,
            "5.7.1",
            None,
            158,
            "The receipt belongs to no message that this provider handed to the provider that sealed it.",
            "Delil, bu sağlayıcının mühürleyen sağlayıcıya teslim ettiği bir iletiye ait değil.",
        ),
        RefusalCode.MAIL_LOOP: PublicText(
            550,
            "5.4.6",
            None,
            159,
            "Automatic messages and messages without a sender make no evidence and are not taken.",
            "Otomatik ya da göndericisiz iletiler delil doğurmaz ve kabul edilmez.",
        ),
        RefusalCode.NOT_SERVED_HERE: PublicText(
            550,
            "5.7.1",
            None,
            160,
            "The address is not served by this provider; nothing is passed on for others.",
            "Adres bu sağlayıcıda değil; başkaları için ileti aktarılmaz.",
        ),
        RefusalCode.TLS_REQUIRED: PublicText(
            530,
            "5.7.0",
            None,
            161,
            "Encryption is required. Use STARTTLS first.",
            "Şifreleme zorunlu. Önce STARTTLS kullanın.",
        ),
        RefusalCode.CLOCK_DIFFERS: PublicText(
            451,
            "4.3.0",
            None,
            206,
            "The message is stamped in this server's future: a clock is wrong, most likely ours. Try again.",
            "İleti, bu sunucunun saatine göre gelecekte damgalanmış; büyük olasılıkla bizim saatimiz yanlış. Yeniden deneyin.",
        ),
        RefusalCode.REGISTER_NOT_CURRENT: PublicText(
            451,
            "4.3.0",
            None,
            207,
            "This server's register of providers is out of date and may not know the sealing certificate yet. Try again.",
            "Bu sunucunun sağlayıcı kaydı güncel değil; mühür sertifikasını henüz bilmiyor olabilir. Yeniden deneyin.",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal as a value.

    ``detail`` goes to the log only; ``recipients`` are named to the sender. ``finding`` is the verifier's stable
    name of what is wrong with the sender's signature, "" where that is not why: edges tell it in the table's
    words (`evidence.nes.sentences`), which hold nothing of the message.
    """

    code: RefusalCode
    detail: str = ""
    recipients: tuple[str, ...] = ()
    finding: str = ""

    @property
    def text(self) -> PublicText:
        """Return what outside sees."""
        return TEXTS[self.code]
