"""What each finding of the verifier means, in Turkish and English, with the cure where there is one.

Every code that a step of the verifier can carry has its pair; a test proves that none lacks it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from evidence.report import Step, SubIndication

Pair = tuple[str, str]

_FORM: Final[Mapping[str, Pair]] = MappingProxyType(
    {
        "not-signed": (
            "İleti imzalı değil; nitelikli sertifikanızla imzalayıp yeniden gönderin.",
            "The message is not signed; sign it with your qualified certificate and send it again.",
        ),
        "unsigned-beside": (
            "İmzanın yanında imzasız metin var; yalnız imzalı bölümü gönderin.",
            "Unsigned text stands beside the signature; send the signed part alone.",
        ),
        "signature-unreadable": (
            "İmza bölümü okunamıyor; iletiyi dönüştürmeden, imza programının yazdığı biçimde gönderin.",
            "The signature part cannot be read; send the message exactly as the signing program wrote it.",
        ),
        "not-strict-der": (
            "İmza yapısı bozuk ya da sınırların dışında (DER); imzayı yeniden oluşturun.",
            "The signature's structure is broken or beyond the limits (DER); sign again.",
        ),
        "no-signer": (
            "İmza yapısında imzacı yok; imzayı yeniden oluşturun.",
            "The signature names no signer; sign again.",
        ),
        "not-data": (
            "İmzalanan içerik türü veri (id-data) değil; imza programının ayarını düzeltin.",
            "What was signed is not of type id-data; correct the signing program's settings.",
        ),
        "content-not-once": (
            "İmzalanan içerik tam olarak bir kez bulunmalı: iletide ya da imzanın içinde.",
            "The signed content must stand exactly once: in the message or inside the signature.",
        ),
        "attributes-missing": (
            "İmzalı öznitelik yok; CAdES-BES imza oluşturan bir program kullanın.",
            "There are no signed attributes; use a program that makes CAdES-BES signatures.",
        ),
        "attribute-twice": (
            "Bir imzalı öznitelik iki kez yazılmış.",
            "A signed attribute stands twice.",
        ),
        "attribute-values": (
            "Bir imzalı özniteliğin tam olarak bir değeri olmalı.",
            "A signed attribute must have exactly one value.",
        ),
        "attribute-malformed": (
            "Bir imzalı öznitelik biçimine uygun yazılmamış.",
            "A signed attribute is malformed.",
        ),
        "attributes-order": (
            "İmzalı öznitelikler DER sırasında değil; imza programını güncelleyin.",
            "The signed attributes are not in DER order; update the signing program.",
        ),
        "content-type-missing": (
            "contentType özniteliği yok; imza programını güncelleyin.",
            "The attribute contentType is missing; update the signing program.",
        ),
        "content-type-differs": (
            "contentType özniteliği imzalanan içeriğin türünden farklı.",
            "The attribute contentType differs from the type of what was signed.",
        ),
        "signing-time-missing": (
            "İmza zamanı yok; P2, P3 ve P4 profilleri imza zamanını ister.",
            "There is no signing time; the profiles P2, P3 and P4 want one.",
        ),
        "counter-content-type": (
            "Seri imzada contentType özniteliği bulunamaz.",
            "A counter-signature must not have a contentType attribute.",
        ),
        "counter-malformed": ("Seri imza okunamıyor.", "A counter-signature cannot be read."),
        "counter-nested": (
            "Seri imzalar çok derin iç içe geçmiş.",
            "Counter-signatures are nested too deeply.",
        ),
        "too-many": (
            "İmza ya da zaman damgası sayısı sınırı aşıyor.",
            "There are more signatures or time stamps than are looked at.",
        ),
        "required-signer-missing": (
            "Geçerli sayılacak imzacının imzası yok.",
            "The signer whose signature counts did not sign.",
        ),
    }
)

_SIGNATURE: Final[Mapping[str, Pair]] = MappingProxyType(
    {
        "digest-unknown": (
            "Özet algoritması tanınmıyor; SHA-256, SHA-384 ya da SHA-512 kullanın.",
            "The digest algorithm is unknown; use SHA-256, SHA-384 or SHA-512.",
        ),
        "digest-missing": (
            "messageDigest özniteliği yok; imza programını güncelleyin.",
            "The attribute messageDigest is missing; update the signing program.",
        ),
        "digest-differs": (
            "İçerik imzalandıktan sonra değişmiş; iletiyi yeniden imzalayıp değiştirmeden gönderin.",
            "The content was changed after signing; sign again and send it unchanged.",
        ),
        "content-variant": (
            "İmzalayan program satır sonlarını ya da noktaları başka yazmış; okunan içerik aynıdır.",
            "The signing program wrote line ends or dots otherwise; what is read is the same.",
        ),
        "ess-missing": (
            "signing-certificate-v2 özniteliği yok; CAdES imza oluşturan bir program kullanın.",
            "The attribute signing-certificate-v2 is missing; use a program that makes CAdES signatures.",
        ),
        "ess-absent": (
            "İmza sertifikasını adlandırmıyor; bu KEPHS e-posta programlarının imzasını böyle kabul ediyor.",
            "The signature does not name its certificate; this provider takes mail programs' signatures so.",
        ),
        "ess-v1": (
            "Sertifika SHA-1 ile bağlanmış (signing-certificate v1); v2 ve SHA-256 kullanın.",
            "The certificate is bound by SHA-1 (signing-certificate v1); use v2 with SHA-256.",
        ),
        "ess-weak": (
            "signing-certificate-v2 zayıf bir özet kullanıyor; SHA-256 ya da üstünü kullanın.",
            "signing-certificate-v2 uses a weak hash; use SHA-256 or better.",
        ),
        "ess-malformed": (
            "signing-certificate-v2 özniteliği biçimine uygun değil.",
            "The attribute signing-certificate-v2 is malformed.",
        ),
        "ess-differs": (
            "signing-certificate-v2 başka bir sertifikayı gösteriyor.",
            "signing-certificate-v2 names another certificate.",
        ),
        "certificate-missing": (
            "İmzacının sertifikası imzanın içinde değil; sertifikayı ekleyerek yeniden imzalayın.",
            "The signer's certificate is not inside the signature; sign again with the certificate included.",
        ),
        "certificate-too-large": (
            "İmzacının sertifikası alışılmadık ölçüde büyük; kabul edilmez.",
            "The signer's certificate is unusually large and not accepted.",
        ),
        "signature-algorithm": (
            "İmza algoritması ya da parametreleri tanınmıyor; RSA ya da ECDSA ile SHA-256 kullanın.",
            "The signature algorithm or its parameters are unknown; use RSA or ECDSA with SHA-256.",
        ),
        "signature-hash": (
            "İmza algoritmasının özeti, özet algoritmasıyla çelişiyor.",
            "The hash of the signature algorithm contradicts the digest algorithm.",
        ),
        "signature-family": (
            "İmza algoritması sertifikadaki anahtarın türüne uymuyor.",
            "The signature algorithm does not fit the certificate's key.",
        ),
        "signature-pss": (
            "Yalnız RSA-PSS için verilmiş anahtarla başka türlü imzalanmış.",
            "A key made for RSA-PSS alone signed otherwise.",
        ),
        "signature-wrong": (
            "İmza değeri doğrulanmıyor: imza bozulmuş ya da başka bir anahtarla atılmış.",
            "The signature value does not verify: it was altered or made by another key.",
        ),
        "key-unusable": (
            "Sertifikadaki anahtar kabul edilen türde ya da boyda değil.",
            "The certificate's key is not of a kind or size that is accepted.",
        ),
        "algorithm-refused": (
            "Algoritma ya da anahtar boyu mevzuata uymuyor; güncel bir sertifika edinin.",
            "The algorithm or key size is not allowed; get a current certificate.",
        ),
        "algorithm-ended": (
            "Algoritmanın geçerlilik süresi bitmiş ve imzanın daha önce var olduğu kanıtlanmıyor.",
            "The algorithm's time is over and nothing proves that the signature existed before.",
        ),
        "algorithm-table-old": (
            "Algoritma tablosunun süresi dolmuş; işletmecinin tabloyu gözden geçirmesi gerekir.",
            "The table of algorithms is past its date; the operator should review it.",
        ),
        "signing-time-ahead": (
            "Beyan edilen imza zamanı ileride; bilgisayarınızın saatini düzeltip yeniden imzalayın.",
            "The claimed signing time lies ahead; correct your computer's clock and sign again.",
        ),
    }
)

_CERTIFICATE: Final[Mapping[str, Pair]] = MappingProxyType(
    {
        "expired": (
            "Sertifikanın süresi dolmuş; ESHS'nizden sertifikanızı yeniletin.",
            "The certificate has expired; renew it at your certificate provider (ESHS).",
        ),
        "expired-no-proof": (
            "Sertifikanın süresi dolmuş ve imzanın daha önce var olduğu kanıtlanmıyor.",
            "The certificate has expired and nothing proves that the signature existed before.",
        ),
        "not-yet-valid": (
            "Sertifika henüz geçerli değil.",
            "The certificate is not valid yet.",
        ),
        "no-path": (
            "Güvenilen bir köke giden sertifika yolu yok; ara sertifikaları imzaya ekleyin.",
            "No path of certificates leads to a trusted root; include the intermediates in the signature.",
        ),
        "path": ("Sertifika yolu kurulamadı.", "The certificate's path does not hold."),
        "path-constraint": (
            "Sertifika yolu bir kısıtlamayı çiğniyor.",
            "The path of certificates breaks a constraint.",
        ),
        "path-algorithm": (
            "Sertifika yolunda izin verilmeyen bir algoritma var.",
            "A certificate of the path uses an algorithm that is not allowed.",
        ),
        "not-qualified": (
            "Sertifika nitelikli değil (ETSI beyanı yok); nitelikli elektronik sertifikayla imzalayın.",
            "The certificate is not qualified (no ETSI statement); sign with a qualified certificate.",
        ),
        "not-under-law-5070": (
            "Sertifikada 5070 sayılı Kanun beyanı yok; Türkiye'de verilmiş NES ile imzalayın.",
            "The certificate has no statement under law 5070; sign with a Turkish qualified certificate.",
        ),
        "seal-not-allowed": (
            "Nitelikli elektronik mühür bu hesapta kullanılamaz; kişinin NES'i ile imzalayın.",
            "A qualified seal may not be used by this account; sign with a person's certificate.",
        ),
        "usage-restricted": (
            "Sertifikanın kullanımı kısıtlanmış; kısıtlama sertifikanın kendisinde yazar.",
            "The certificate's use is restricted; the restriction stands in the certificate.",
        ),
        "authority": (
            "Bu bir sertifika makamının sertifikası; kişiler bununla imzalayamaz.",
            "This is an authority's certificate; people do not sign with it.",
        ),
        "no-non-repudiation": (
            "Sertifika imza için değil (nonRepudiation yok); imza sertifikanızı seçin.",
            "The certificate is not made for signatures (no nonRepudiation); choose the one that is.",
        ),
        "transaction-certificate": (
            "Bu bir işlem sertifikası; kullanıcı iletisi bununla imzalanamaz.",
            "This is a provider's transaction certificate; it never signs a user's message.",
        ),
        "mali-muhur": (
            "Mali mühür nitelikli imza değildir; NES ile imzalayın.",
            "The financial seal (Mali Mühür) is no qualified signature; sign with a qualified certificate.",
        ),
        "no-user-notice": (
            "Sertifika ilkelerinde kullanıcı bildirimi yok.",
            "The certificate's policies lack the user notice.",
        ),
    }
)

_TIME: Final[Mapping[str, Pair]] = MappingProxyType(
    {
        "policy-malformed": (
            "İmza politikası özniteliği biçimine uygun değil.",
            "The signature policy attribute is malformed.",
        ),
        "policy-unknown": (
            "İmza politikası tanınmıyor; P1-P4 profillerinden birini kullanın.",
            "The signature policy is not known; use one of the profiles P1 to P4.",
        ),
        "policy-hash": (
            "İmza politikasının özeti belgesininkinden farklı; imza programını güncelleyin.",
            "The policy's hash is not that of its document; update the signing program.",
        ),
        "policy-address": (
            "İmza politikasının adresi (SPURI) yok ya da yanlış; imza programını güncelleyin.",
            "The policy's address (SPURI) is missing or wrong; update the signing program.",
        ),
        "stamp-missing": (
            "Profilin istediği imza zaman damgası yok.",
            "The signature time stamp that the profile wants is missing.",
        ),
        "stamp-format": ("Zaman damgası okunamıyor.", "A time stamp cannot be read."),
        "stamp-signature": (
            "Zaman damgasının imzası doğrulanmıyor.",
            "A time stamp's own signature does not verify.",
        ),
        "stamp-imprint": (
            "Zaman damgası bu imzaya ait değil.",
            "A time stamp is not over this signature.",
        ),
        "stamp-role": (
            "Zaman damgasını atan sertifika bu iş için verilmemiş.",
            "The certificate that stamped was not made for time stamps.",
        ),
        "stamp-time": (
            "Zaman damgası, sertifikasının geçerlilik süresi dışında atılmış.",
            "A time stamp was made outside the validity of its certificate.",
        ),
        "stamp-algorithm": (
            "Zaman damgasında izin verilmeyen bir algoritma var.",
            "A time stamp uses an algorithm that is not allowed.",
        ),
        "stamp-expired": (
            "Zaman damgası sertifikasının süresi dolmuş ve damga yenilenmemiş.",
            "The time stamp's certificate has expired and no newer stamp renews it.",
        ),
        "stamp-path": (
            "Zaman damgası makamından güvenilen bir köke yol yok.",
            "No path leads from the time-stamping authority to a trusted root.",
        ),
        "stamp-future": (
            "Zaman damgası gelecekte görünüyor; saatler uyuşmuyor.",
            "A time stamp lies in the future; the clocks do not agree.",
        ),
        "stamp-before-signing": (
            "Zaman damgası, beyan edilen imza zamanından önce; imzalayan bilgisayarın saati yanlış.",
            "A time stamp is earlier than the claimed signing time; the signer's clock is wrong.",
        ),
        "stamp-late": (
            "Zaman damgası imzadan iki saatten fazla sonra alınmış; yeniden imzalayın.",
            "The time stamp came more than two hours after the signature; sign again.",
        ),
        "stamp-not-checked": (
            "Bu türden zaman damgası denetlenmedi.",
            "A time stamp of this kind was not checked.",
        ),
        "archive-malformed": ("Arşiv zaman damgası bozuk.", "An archive time stamp is malformed."),
        "archive-index": (
            "Arşiv zaman damgasının dizini imzadakilerle uyuşmuyor.",
            "The index of an archive time stamp does not fit what the signature holds.",
        ),
        "archive-index-unknown": (
            "Arşiv zaman damgasının dizin türü tanınmıyor; denetlenmedi.",
            "The index of an archive time stamp is of an unknown kind; it was not checked.",
        ),
        "archive-content": (
            "Arşiv zaman damgası içerik özeti alınamadığı için denetlenmedi.",
            "An archive time stamp was not checked, as the content could not be digested for it.",
        ),
    }
)


def _long_term(code: str, turkish: str, english: str) -> dict[str, Pair]:
    return {
        f"{code}-missing": (
            f"{turkish} yok; profil bunları ister.",
            f"The {english} are missing; the profile wants them.",
        ),
        f"{code}-malformed": (f"{turkish} okunamıyor.", f"The {english} cannot be read."),
        f"{code}-wrong": (
            f"{turkish} eksik ya da uyumsuz; uzun süreli imzayı yeniden oluşturun.",
            f"The {english} are incomplete or do not fit; make the long-term signature again.",
        ),
    }


_LONG_TERM: Final[Mapping[str, Pair]] = MappingProxyType(
    {
        **_long_term("certificate-refs", "Sertifika başvuruları", "certificate references"),
        **_long_term("revocation-refs", "İptal verisi başvuruları", "revocation references"),
        **_long_term("certificate-values", "Sertifika değerleri", "certificate values"),
        **_long_term("revocation-values", "İptal verileri", "revocation values"),
        "stamp-material-missing": (
            "Zaman damgası makamının zinciri ya da iptal verisi imzanın içinde değil.",
            "The time-stamping authority's chain or revocation data is not inside the signature.",
        ),
    }
)

_REVOCATION: Final[Mapping[str, Pair]] = MappingProxyType(
    {
        "revoked": (
            "İmzacının sertifikası iptal edilmiş; geçerli bir sertifikayla imzalayın.",
            "The signer's certificate is revoked; sign with a valid certificate.",
        ),
        "revoked-no-proof": (
            "İmzacının sertifikası iptal edilmiş ve imzanın daha önce var olduğu kanıtlanmıyor.",
            "The signer's certificate is revoked and nothing proves that the signature existed before.",
        ),
        "revoked-later": (
            "Sertifika, imzanın var olduğu kanıtlanan zamandan sonra iptal edilmiş; imza geçerli kalır.",
            "The certificate was revoked after the time the signature is proven for; the signature stands.",
        ),
        "authority-revoked": (
            "Sertifikayı veren makamın sertifikası iptal edilmiş.",
            "The certificate of an issuing authority is revoked.",
        ),
        "stamper-revoked": (
            "Zaman damgası makamının sertifikası iptal edilmiş.",
            "The certificate of the time-stamping authority is revoked.",
        ),
        "counter-signer-revoked": (
            "Seri imza atanın sertifikası iptal edilmiş.",
            "The certificate of a counter-signer is revoked.",
        ),
        "no-revocation-answer": (
            "OCSP ya da SİL yanıtı yok; daha sonra yeniden deneyin.",
            "There is no answer by OCSP or CRL; try again later.",
        ),
        "revocation-unknown": (
            "OCSP yanıtlayıcısı sertifikayı tanımıyor; daha sonra yeniden deneyin.",
            "The OCSP responder does not know the certificate; try again later.",
        ),
        "revocation-not-fresh": (
            "İptal bilgisi gereken zamanı anlatmıyor; daha sonra yeniden deneyin ya da güncel veri verin.",
            "The revocation data does not tell of the time that counts; try later or supply current data.",
        ),
        "ocsp-required": (
            "P4 profili imzacı için OCSP yanıtı ister; daha sonra yeniden deneyin.",
            "The profile P4 wants an OCSP answer on the signer; try again later.",
        ),
        "grace": (
            "Damgadan 24 saat sonraki SİL henüz yok; denetim sonra tamamlanır.",
            "The list of 24 hours after the stamp does not exist yet; the check is completed later.",
        ),
        "grace-hold": (
            "Damgadan 24 saat sonraki SİL bekleniyor.",
            "Waiting for the list of 24 hours after the stamp.",
        ),
    }
)

_SHOWN: Final[Mapping[str, Pair]] = MappingProxyType(
    {
        "header-differs": (
            "Görünen başlık imzalanandan farklı; iletiyi değiştirmeden gönderin.",
            "A header shown differs from the one signed; send the message unchanged.",
        ),
        "header-twice": (
            "Bir başlık alanı iki kez yazılmış.",
            "A header field stands twice.",
        ),
        "header-unprotected": (
            "Konu, gönderen ve alıcılar imzanın dışındadır; onları kabul delili kaydeder.",
            "Subject, sender and recipients are not signed; the evidence of acceptance records them.",
        ),
        "nothing-to-compare": (
            "Karşılaştırılacak imzalı içerik yok; önceki adıma bakın.",
            "There is no signed content to compare with; see the earlier step.",
        ),
        "shown-as-signed": (
            "Gösterilen başlık imzalananla aynı anlamda.",
            "What is shown means what was signed.",
        ),
    }
)

SENTENCES: Final[Mapping[str, Pair]] = MappingProxyType(
    {**_FORM, **_SIGNATURE, **_CERTIFICATE, **_TIME, **_LONG_TERM, **_REVOCATION, **_SHOWN}
)
"""Turkish and English by code."""

_HOLDS: Final = ("Bu denetim geçti.", "This check holds.")
_NOT_MADE: Final = ("Bu denetim yapılamadı.", "This check could not be made.")
_FAILS: Final = ("Bu denetim geçmedi.", "This check fails.")
_LATER: Final = (
    "Gerekli bilgi şimdi alınamıyor; daha sonra yeniden deneyin.",
    "What is needed cannot be had now; try again later.",
)


def sentence(step: Step) -> Pair:
    """Return the finding of a step for people: Turkish, English. Steps without a code get a general one."""
    found = SENTENCES.get(step.code)
    if found is not None:
        return found
    if step.ok is None:
        return _NOT_MADE
    if step.ok:
        return _HOLDS
    return _LATER if step.sub_indication is SubIndication.TRY_LATER else _FAILS
