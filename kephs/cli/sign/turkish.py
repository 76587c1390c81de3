"""What `kephs sign` says of a card or a file that is not well: English and Turkish, by code."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from evidence.adapters.pkcs11_card import CardFault
from kephs.cli.findings import Finding, Level

CARD_CURES: Final[Mapping[CardFault, str]] = MappingProxyType(
    {
        CardFault.MODULE_MISSING: "install the card maker's driver and name its PKCS#11 library",
        CardFault.MODULE_FOREIGN: "install the driver for this machine's system and word size",
        CardFault.MODULE_INVALID: "name the maker's PKCS#11 library; install what it needs (pcscd)",
        CardFault.NO_READER: "plug the reader in; the service pcscd must run",
        CardFault.NO_CARD: "put the card into the reader, chip first",
        CardFault.CARD_UNREADABLE: "turn the card round, clean its chip, or use its maker's driver",
        CardFault.CARD_UNINITIALISED: "let your certificate provider (ESHS) load it",
        CardFault.CARD_UNKNOWN: "give --token or --slot as listed",
        CardFault.CARDS_SEVERAL: "choose one with --token or --slot",
        CardFault.CARD_FAILED: "take the card out and put it in again; then kephs sign --diagnose",
        CardFault.NO_CERTIFICATE: "let your certificate provider (ESHS) load your certificate onto the card",
        CardFault.NONE_QUALIFIED: "use the card with your qualified certificate (NES)",
        CardFault.CERTIFICATE_EXPIRED: "renew the certificate at your certificate provider (ESHS)",
        CardFault.CERTIFICATE_UNKNOWN: "give --certificate as listed: a fingerprint or a part of the name",
        CardFault.CERTIFICATES_SEVERAL: "choose one with --certificate and its fingerprint",
        CardFault.KEY_MISSING: "ask your certificate provider (ESHS): the key was never loaded",
        CardFault.KEY_UNUSABLE: "take the newest driver of the card's maker, or another certificate",
        CardFault.PIN_WRONG: "look it up before you try again: nothing is tried by itself",
        CardFault.PIN_LOCKED: "unlock it with the PUK in the maker's program; it is in your PIN envelope",
        CardFault.PIN_LAST_TRY: "only if you are sure of the PIN: --use-last-try; else unlock with the PUK",
        CardFault.PIN_UNSET: "set a PIN in the card maker's program",
        CardFault.PIN_EXPIRED: "change the PIN in the card maker's program",
    }
)

TURKISH: Final[Mapping[str, str]] = MappingProxyType(
    {
        "password-file-open": "parola dosyasını başkaları okuyabilir: yalnızca sahibine açın (chmod 600)",
        "module-missing": "kart sürücüsü yok: üreticinin sürücüsünü kurun, PKCS#11 kitaplığını gösterin",
        "module-foreign": "sürücü bu bilgisayar için değil: bu sisteme ve bit sayısına uygun olanı kurun",
        "module-invalid": "bu dosya PKCS#11 sürücüsü değil ya da eksiği var: doğrusunu gösterin, pcscd kurun",
        "no-reader": "kart okuyucu görünmüyor: okuyucuyu takın; pcscd hizmeti çalışmalı",
        "no-card": "okuyucuda kart yok: kartı çipi önde olacak biçimde takın",
        "card-unreadable": "kart tanınmadı: ters takılmış olabilir; çipi silin ya da kartın sürücüsünü kurun",
        "card-uninitialised": "kart boş, hiç hazırlanmamış: sertifika sağlayıcınıza (ESHS) başvurun",
        "card-unknown": "böyle bir kart yok: --token ya da --slot değerini listedeki gibi verin",
        "cards-several": "birden çok kart takılı: --token ya da --slot ile birini seçin",
        "card-failed": "kart ya da sürücü hata verdi: kartı çıkarıp yeniden takın",
        "no-certificate": "kartta sertifika yok: sertifika sağlayıcınıza (ESHS) yükletin",
        "none-qualified": "kartta nitelikli sertifika (NES) yok: NES'inizin bulunduğu kartı takın",
        "certificate-expired": "sertifikanın süresi dolmuş ya da başlamamış: sağlayıcınızdan yenileyin",
        "certificate-unknown": "böyle bir sertifika yok: --certificate değerini listedeki gibi verin",
        "certificates-several": "birden çok uygun sertifika var: --certificate ile parmak izini verin",
        "key-missing": "sertifikanın anahtarı kartta yok: sertifika sağlayıcınıza (ESHS) başvurun",
        "key-unusable": "kart bu anahtarla imzalamıyor: üreticinin en yeni sürücüsünü kurun",
        "pin-wrong": "PIN yanlış, yeniden denenmez: emin olmadan bir daha girmeyin",
        "pin-locked": "PIN kilitli: PIN zarfınızdaki PUK ile üreticinin programında açın",
        "pin-last-try": "son PIN deneme hakkı: eminseniz --use-last-try, değilseniz PUK ile açın",
        "pin-unset": "kartın PIN'i belirlenmemiş: üreticinin programında belirleyin",
        "pin-expired": "PIN'in süresi dolmuş: üreticinin programında değiştirin",
        "pin-low": "son doğru girişten beri yanlış PIN girilmiş: PIN'den emin olun",
        "pin-to-be-changed": "PIN hâlâ üreticinin verdiği PIN: üreticinin programında değiştirin",
        "pin-refused-before": "bu dosyadaki PIN daha önce reddedildi: doğrusunu yazmadan denenmez",
        "chain-file": "dosyada okunabilir sertifika yok: sertifikanızın zincirini PEM ya da DER olarak verin",
        "tsa-address": "zaman damgası adresi kullanılamıyor: http(s) adresini verin",
        "pin-needed": "PIN verilmedi, hiçbir şey denenmedi: PIN'i yazın ya da --pin-file ile verin",
        "pin-file": "PIN dosyası kullanılamıyor: ilk satırı PIN olsun, başkaları okuyamasın (chmod 600)",
        "key-hidden": "anahtarın kartta olduğu ancak PIN girilince görülür: --pin-file bir kez dener",
        "key-file": "anahtar dosyası açılamıyor: dosyayı ve parolasını denetleyin",
        "identity": "sertifikada T.C. Kimlik No yok: kişiye verilmiş sertifikayla imzalayın",
        "validity": "sertifikanın geçerlilik süresine bakın: sağlayıcınızdan yenileyin ya da saati düzeltin",
        "qualified": "bu sertifika nitelikli elektronik sertifika (NES) değil: NES ile imzalayın",
        "key-usage": "sertifika imza için verilmemiş (inkâr edilemezlik yok): NES ile imzalayın",
        "policies": "sertifikanın ilkeleri NES'e uymuyor (Mali Mühür NES değildir): NES ile imzalayın",
        "key-type": "anahtarın türü ya da boyu artık yeterli değil: sertifikayı yenileyin",
        "chain": "üst sertifikalar yok: --chain ile verin ya da anahtarı bütün zinciriyle dışa aktarın",
        "revocation": "iptalli ya da durumu bilinmiyor: iptal edilmişse yenisini alın, değilse ağa bakın",
        "clock": "bilgisayarın saati yanlış ya da karşılaştırılamadı: saati ayarlayın",
        "unsignable": "ileti bu haliyle imzalanamaz: eksiksiz, imzasız bir ileti (RFC 5322) verin",
        "letter-incomplete": "Kimden (From) ya da Tarih (Date) eksik ya da hatalı: ikisini birer kez yazın",
        "output-exists": "sonuç dosyası zaten var: --force üzerine yazar",
        "output-is-input": "sonuç, imzalanacak bir dosyanın üzerine yazılırdı: başka bir ad verin",
        "name-taken": "aynı adlı iki dosya var: ayrı klasörlere imzalayın",
        "too-big": "dosya çok büyük: KEP iletisi ve ekleri 100 MB'yi aşamaz",
        "file-error": "dosya okunamıyor ya da yazılamıyor: yolu ve izinleri denetleyin",
        "signer-unavailable": "kart imzalamadı: kartı yeniden takın, sonra kephs sign --diagnose",
        "no-time-stamp": "zaman damgası alınamadı: --tsa adresini ve ağı denetleyin",
    }
)

FILE_CURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "unsignable": "give a complete, unsigned RFC 5322 message",
        "letter-incomplete": "write From (the KEP address that sends) and Date once each, then sign again",
        "output-exists": "--force replaces it",
        "output-is-input": "give another name or folder",
        "name-taken": "sign them into different folders",
        "too-big": "a KEP message with its attachments is at most 100 MB",
        "file-error": "check the path and its permissions",
        "signer-unavailable": "put the card in again; then kephs sign --diagnose",
        "no-time-stamp": "check --tsa and the network",
    }
)
"""By the codes of `kephs.cli.sign.files`."""


def both(code: str, cure: str) -> str:
    """Return a cure in English with its Turkish sentence beside it."""
    return f"{cure} / {TURKISH[code]}"


def told(english: str, turkish: str) -> str:
    """Return what was found, in English and in Turkish."""
    return f"{english} / {turkish}"


def told_by_code(code: str, english: str) -> str:
    """Return what was found in both languages where the code's own Turkish says it all."""
    return told(english, TURKISH[code].partition(": ")[0])


def cure_by_code(code: str, english: str) -> str:
    """Return a cure in both languages; the Turkish is what stands behind the colon of the code's sentence."""
    return told(english, TURKISH[code].partition(": ")[2])


def in_both_languages(finding: Finding) -> Finding:
    """Return a finding whose cure is told in Turkish too; good ones have none. Its text has both already."""
    if finding.level is Level.OK:
        return finding
    return replace(finding, cure=cure_by_code(finding.code, finding.cure))
