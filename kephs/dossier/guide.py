"""The page for the judge: how to check the dossier, with our program and without it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from kephs.dossier.facts import BUNDLE_NAME, DATA_NAME, ORIGINAL_NAME, Language


@dataclass(frozen=True, slots=True)
class Advice:
    """One step: a heading, sentences, and commands as they are typed."""

    heading: str
    text: str
    commands: tuple[str, ...] = ()


_VERIFY: Final = (f"kephs verify {BUNDLE_NAME} --trust KOKLER",)
_SAVE: Final = ("pdfdetach -saveall dosya.pdf",)
_DIGESTS: Final = (f"sha256sum {ORIGINAL_NAME} {BUNDLE_NAME} {DATA_NAME}",)
_BY_HAND: Final = (
    f"unzip {BUNDLE_NAME} -d paket && cd paket",
    "sed -n 's/^    //p' BENIOKU.txt > /tmp/denetle.sh",
    "KOKLER=/yol/kokler bash /tmp/denetle.sh",
)
_SINGLE: Final = (
    "xmlsec1 --verify --id-attr:Id SignedProperties --trusted-pem kok.pem delil/40-Delivery-1.xml",
    "openssl cms -verify -cades -purpose any -CAfile kok.pem -inform DER -in kayit/manifest.p7s \\",
    "  -content kayit/manifest.json -binary -out /dev/null",
)

GUIDE: Final[Mapping[Language, tuple[Advice, ...]]] = MappingProxyType(
    {
        Language.TURKISH: (
            Advice(
                "Neye güvenilir, neye güvenilmez",
                "Sayfalardaki yazı kolay okunsun diyedir ve imzalı değildir. Denetlenecek olan, PDF'e ekli "
                "dosyalardır: her delil onu düzenleyen KEPHS'nin işlem sertifikasıyla imzalı, zaman "
                "damgalıdır. Denetim için taraflara, KEPHS'ye ya da internete ihtiyaç yoktur.",
            ),
            Advice(
                "1. Ekleri kaydedin",
                "PDF okuyucunun ekler (ataç simgesi) bölümünü açıp üç dosyayı bir klasöre kaydedin ya da:",
                _SAVE,
            ),
            Advice(
                "2. Özetleri karşılaştırın",
                "Çıkan değerler “Ekli dosyalar” sayfasındakilerle aynı olmalıdır; original.eml dosyasınınki "
                "ayrıca her delilin içinde yazar.",
                _DIGESTS,
            ),
            Advice(
                "3. Paketi programla denetleyin",
                "KOKLER, güvenilen kök sertifikaların klasörüdür; kökler bu dosyadan değil, yetkili makamdan "
                "alınır. Kayıt defterinin anahtarı elinizdeyse --log-key ile ekleyin. Çıkış kodu 0: geçerli, "
                "1: geçersiz, 2: belirsiz (bir şey eksik; hangisi olduğu yazılır).",
                _VERIFY,
            ),
            Advice(
                "4. Ya da yaygın araçlarla denetleyin (bash, openssl, xmlsec1)",
                "Paketteki BENIOKU.txt bütün adımları açıklar ve çalıştırılabilir; her şey tutuyorsa son "
                "satır “TAMAM / ALL HOLDS” olur.",
                _BY_HAND,
            ),
            Advice("Tek bir delili ve paketin mührünü elle denetlemek için", "", _SINGLE),
            Advice(
                "Sonuç ne anlama gelir",
                "GEÇERLİ (TOTAL-PASSED): imzalar, zaman damgaları ve bütünlük tutuyor; deliller yazdıklarını "
                "kanıtlar, fazlasını değil. BELİRSİZ (INDETERMINATE): karar için bir kök, iptal bilgisi ya "
                "da anahtar eksik. GEÇERSİZ (TOTAL-FAILED): bir dosya değişmiş ya da imzası tutmuyor. "
                "Sertifikası sonradan biten ya da iptal edilen bir imza, damgası daha önceyse geçerli kalır.",
            ),
        ),
        Language.ENGLISH: (
            Advice(
                "What to rely on, and what not",
                "The pages are for reading and are not signed. What is checked are the files attached to the "
                "PDF: every evidence is signed with the transaction certificate of the provider that issued "
                "it, and time-stamped. Neither the parties, nor the provider, nor a network is needed.",
            ),
            Advice(
                "1. Save the attached files",
                "Open the attachments (paper clip) pane of a PDF reader and save the three files into one "
                "folder, or:",
                _SAVE,
            ),
            Advice(
                "2. Compare the digests",
                "The values must be those of the page “Attached files”; that of original.eml stands inside "
                "every evidence too.",
                _DIGESTS,
            ),
            Advice(
                "3. Check the bundle with the program",
                "KOKLER is a folder with the root certificates you trust; take them from the authority, not "
                "from this file. If you have the ledger's key, add it with --log-key. Exit code 0: valid, "
                "1: not valid, 2: undecided (something is missing; it is named).",
                _VERIFY,
            ),
            Advice(
                "4. Or check it with common tools (bash, openssl, xmlsec1)",
                "BENIOKU.txt in the bundle explains every step and can be run; if all holds the last line is "
                "“TAMAM / ALL HOLDS”.",
                _BY_HAND,
            ),
            Advice("A single evidence, and the seal of the bundle, by hand", "", _SINGLE),
            Advice(
                "What the result means",
                "VALID (TOTAL-PASSED): signatures, time stamps and integrity hold; evidence proves what it "
                "says and no more. UNDECIDED (INDETERMINATE): a root, revocation data or a key is missing. "
                "NOT VALID (TOTAL-FAILED): a file was changed or a signature does not hold. A signature "
                "whose certificate ended or was revoked later stays valid if its stamp is older.",
            ),
        ),
    }
)
