"""What each evidence proves, and what it does not: for people, Turkish and English.

The sentences say no more than the evidence does. Who reads them may stand before a court.

spec: KEP-EV-06, KEP-EV-10 to KEP-EV-61, KEP-LM-05, KEP-LM-06.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from evidence.model.records import EvidenceKind


@dataclass(frozen=True, slots=True)
class Meaning:
    """One kind in two languages: (Turkish, English)."""

    proves: tuple[str, str]
    does_not: tuple[str, str]


_K, _M = EvidenceKind, Meaning

MEANINGS: Final[Mapping[EvidenceKind, Meaning]] = MappingProxyType(
    {
        _K.SUBMISSION_ACCEPTANCE: _M(
            (
                (
                    "Gönderici, özeti burada yazılı iletiyi bu alıcılara göndermek üzere KEPHS'sine bu "
                    "zamanda verdi; imzası denetlendi ve ileti kabul edildi."
                ),
                (
                    "The sender handed the message with this digest to their provider at this time, for "
                    "these recipients; the signature was checked and the message accepted."
                ),
            ),
            (
                "İletinin alıcının KEPHS'sine veya posta kutusuna ulaştığını.",
                "That it reached a recipient's provider or mailbox.",
            ),
        ),
        _K.SUBMISSION_REJECTION: _M(
            (
                "Gönderici bu iletiyi vermek istedi; KEPHS yazılı nedenle kabul etmedi.",
                "The sender tried to hand this message in; the provider refused it for the reason given.",
            ),
            (
                "Herhangi bir gönderimi: bu ileti kimseye iletilmedi ve içeriği saklanmaz.",
                "Any sending: this message went to nobody, and its content is not kept.",
            ),
        ),
        _K.RELAY_ACCEPTANCE: _M(
            (
                "Alıcının KEPHS'si iletiyi bu zamanda teslim aldı; bundan sonrası onun sorumluluğundadır.",
                "The recipient's provider took the message over at this time; what follows is its duty.",
            ),
            (
                "İletinin alıcının posta kutusuna konduğunu.",
                "That it was put into the recipient's mailbox.",
            ),
        ),
        _K.RELAY_REJECTION: _M(
            (
                "Alıcının KEPHS'si iletiyi yazılı nedenle teslim almadı.",
                "The recipient's provider refused to take the message, for the reason given.",
            ),
            (
                "Alıcının iletiden haberi olduğunu.",
                "That the recipient knows of the message.",
            ),
        ),
        _K.RELAY_FAILURE: _M(
            (
                "Göndericinin KEPHS'si, iletiyi süresi içinde alıcının KEPHS'sine teslim edemedi.",
                "The sender's provider could not hand the message to the recipient's provider in time.",
            ),
            (
                "Alıcının kusurunu veya iletiden haberi olduğunu.",
                "Any fault of the recipient, or that they know of the message.",
            ),
        ),
        _K.DELIVERY: _M(
            (
                "İleti bu zamanda alıcının posta kutusuna kondu; o andan beri alıcının erişimine açıktır.",
                "The message was put into the recipient's mailbox at this time and could be read since.",
            ),
            (
                "Alıcının iletiyi açtığını veya okuduğunu.",
                "That the recipient opened or read it.",
            ),
        ),
        _K.NON_DELIVERY: _M(
            (
                (
                    "İleti yazılı nedenle bu alıcının posta kutusuna konmadı ya da konduğu süresinde "
                    "bildirilmedi."
                ),
                (
                    "For the reason given the message was not put into this recipient's mailbox, or nobody "
                    "said in time that it was."
                ),
            ),
            (
                "Öteki alıcıların durumunu; her alıcının kendi delili vardır.",
                "Anything about the other recipients; each has evidence of their own.",
            ),
        ),
        _K.RETRIEVAL: _M(
            (
                (
                    "İletinin içeriği bu zamanda, adı yazılı kişi oturum açmışken alıcının hesabından ilk "
                    "kez açıldı."
                ),
                (
                    "The content was opened for the first time at this time, from the recipient's account, "
                    "with the named person signed in."
                ),
            ),
            (
                "O kişinin içeriği anladığını, kabul ettiğini veya sonra yeniden okuduğunu.",
                "That this person understood it, agreed to it, or read it again later.",
            ),
        ),
        _K.NON_RETRIEVAL: _M(
            (
                "İleti, yazılı sürenin sonuna kadar alıcının hesabından açılmadı.",
                "The message was not opened from the recipient's account until the time limit given.",
            ),
            (
                "Okunmuş sayılmasının hukuki sonucunu; buna ilgili mevzuat karar verir.",
                "Whether it counts as read by law; that is for the rules that apply to decide.",
            ),
        ),
        _K.DOWNLOAD: _M(
            (
                "İletinin içeriği bu zamanda alıcının hesabından indirildi.",
                "The content was downloaded from the recipient's account at this time.",
            ),
            ("İçeriğin okunduğunu.", "That it was read."),
        ),
        _K.NON_DOWNLOAD: _M(
            (
                "İletinin içeriği, yazılı sürenin sonuna kadar indirilmedi.",
                "The content was not downloaded until the time limit given.",
            ),
            (
                "Alıcının iletiden habersiz olduğunu.",
                "That the recipient does not know of it.",
            ),
        ),
        _K.ACCEPTANCE_BY_RECIPIENT: _M(
            (
                "Alıcı, iletiyi almayı bu zamanda kabul etti.",
                "The recipient agreed to receive the message at this time.",
            ),
            (
                "İçeriği okuduğunu veya içeriğe katıldığını.",
                "That they read the content or agree with it.",
            ),
        ),
        _K.REJECTION_BY_RECIPIENT: _M(
            (
                "Alıcı, iletiyi almayı bu zamanda reddetti.",
                "The recipient refused to receive the message at this time.",
            ),
            ("İçeriği bildiğini.", "That they know the content."),
        ),
        _K.RELAY_TO_NON_REM: _M(
            (
                "İleti bu zamanda KEP dışı bir sisteme verildi.",
                "The message was passed to a system outside KEP at this time.",
            ),
            (
                "Oradan sonra ne olduğunu: KEP dışında delil üretilmez.",
                "What became of it there: outside KEP nobody makes evidence.",
            ),
        ),
        _K.RELAY_TO_NON_REM_FAILURE: _M(
            (
                "İleti, yazılı nedenle KEP dışı sisteme verilemedi.",
                "For the reason given the message could not be passed to the system outside KEP.",
            ),
            (
                "Alıcının iletiden haberi olduğunu.",
                "That the recipient knows of the message.",
            ),
        ),
        _K.RECEIVED_FROM_NON_REM: _M(
            (
                "İleti bu zamanda KEP dışından geldi.",
                "The message came from outside KEP at this time.",
            ),
            (
                "Göndericinin kim olduğunu: KEP dışında kimlik denetlenmez.",
                "Who sent it: outside KEP nobody checks identities.",
            ),
        ),
        _K.NOTIFICATION_FOR_ACCEPTANCE: _M(
            (
                "Alıcıya, kendisini bekleyen bir ileti olduğu bu zamanda bildirildi.",
                "The recipient was told at this time that a message waits for their acceptance.",
            ),
            (
                "Bildirimin okunduğunu veya iletinin kabul edildiğini.",
                "That the notification was read, or the message accepted.",
            ),
        ),
        _K.NOTIFICATION_FOR_ACCEPTANCE_FAILURE: _M(
            (
                "Alıcıya bildirim, yazılı nedenle ulaştırılamadı.",
                "For the reason given the recipient could not be notified.",
            ),
            (
                "Alıcının kusurunu.",
                "Any fault of the recipient.",
            ),
        ),
        _K.ACCEPTANCE_REJECTION_EXPIRY: _M(
            (
                "Alıcı, yazılı sürede kabul veya ret bildirmedi.",
                "The recipient neither accepted nor refused within the time limit given.",
            ),
            ("Bildirimi okuduğunu.", "That they read the notification."),
        ),
        _K.CONSIGNMENT_NOTIFICATION: _M(
            (
                "İletinin posta kutusunda olduğu alıcıya bu zamanda bildirildi.",
                "The recipient was told at this time that the message is in their mailbox.",
            ),
            (
                "Bildirimin veya iletinin okunduğunu.",
                "That the notification or the message was read.",
            ),
        ),
        _K.CONSIGNMENT_NOTIFICATION_FAILURE: _M(
            (
                "İletinin posta kutusunda olduğu alıcıya yazılı nedenle bildirilemedi.",
                "For the reason given the recipient could not be told that the message is in their mailbox.",
            ),
            (
                "İletinin posta kutusunda olmadığını.",
                "That the message is not in the mailbox.",
            ),
        ),
    }
)
