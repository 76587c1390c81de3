"""What helps where a step of ``kephs trust`` is refused: English, and beside it what is wrong in Turkish."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kephs.usecases.governance.trust_list import TrustFault

WORDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        TrustFault.UNREADABLE.value: (
            "give a certificate as PEM or DER",
            "sertifika okunamıyor: PEM ya da DER biçiminde bir sertifika verin",
        ),
        TrustFault.NOT_A_CA.value: (
            "give the root of the certificate provider, not a person's certificate",
            "bu bir makam sertifikası değil: kişinin değil, sertifika sağlayıcısının (ESHS) kökünü verin",
        ),
        TrustFault.SELF_SIGNATURE.value: (
            "get the file again from the provider itself: this one was altered",
            "sertifikanın kendi imzası tutmuyor, dosya değiştirilmiş: ESHS'nin kendisinden yeniden alın",
        ),
        TrustFault.UNUSABLE.value: (
            "ask the provider for a root with an RSA or elliptic-curve key",
            "anahtarı, imzası ya da bir uzantısı desteklenmiyor: ESHS'den RSA ya da eliptik eğri kökü alın",
        ),
        TrustFault.EXPIRED.value: (
            "import the provider's current root",
            "sertifikanın süresi dolmuş: ESHS'nin güncel kökünü ekleyin",
        ),
        TrustFault.TEST.value: (
            "never trust TEST certificates in production; make TEST instances with --test-pki",
            "bu bir TEST sertifikası: gerçek kurulumda güvenilmez, sınama kurulumunu --test-pki ile yapın",
        ),
        TrustFault.TOO_MANY.value: (
            "import fewer files at a time",
            "bir kerede çok fazla sertifika: daha az dosya verin",
        ),
        TrustFault.FINGERPRINT.value: (
            "type all 64 digits as the provider itself published them",
            "parmak izi eksik: sağlayıcının kendi yayımladığı 64 rakamın tümünü yazın",
        ),
        TrustFault.UNKNOWN.value: (
            "see kephs trust list DIR --all",
            "listede bu parmak izinde sertifika yok: kephs trust list DIR --all",
        ),
        TrustFault.STEP.value: (
            "see its state: kephs trust list DIR --all",
            "bu adım yapılamaz: iki ayrı kişi onaylar, kaldırma gerekçe ister; kephs trust list DIR --all",
        ),
        "list-content": (
            "have whoever signs the list correct it and sign it again",
            "listenin içeriği hatalı: listeyi imzalayan düzeltip yeniden imzalasın",
        ),
        "list-signature": (
            "get list and .p7s again from whoever signs them",
            "listenin imzası geçersiz: listeyi ve .p7s dosyasını imzalayandan yeniden alın",
        ),
        "list-signer": (
            "correct trust.list_signers in kephs.toml",
            "trust.list_signers hatalı: kephs.toml dosyasında düzeltin",
        ),
        "list-signer-none": (
            "pin the SHA-256 of the signer's certificate there, or import the certificates themselves",
            "kimse liste imzalayamaz: imzalayanın sertifikasının SHA-256'sını yazın ya da sertifika ekleyin",
        ),
        "key-unusable": (
            "sign with a valid certificate",
            "sertifika şu anda geçerli değil: geçerli bir sertifikayla imzalayın",
        ),
        "row-unreadable": (
            "run kephs fsck DIR",
            "bir satırı kephs yazmamış: kephs fsck DIR çalıştırın",
        ),
        "file-too-large": (
            "give certificates",
            "dosya çok büyük: sertifika dosyası verin",
        ),
    }
)
"""By stable code: the cure in English; in Turkish what was found, a colon, the cure."""


def cure_of(code: str) -> str:
    """Return the cure for a code, English and Turkish."""
    return " / ".join(WORDS[code])
