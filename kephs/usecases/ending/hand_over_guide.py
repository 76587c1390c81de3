"""The page that lies in every hand-over: what it is, and how to check it without any program of ours."""

from typing import Final

GUIDE: Final = "BENIOKU.txt"
_TEXT: Final = """\
DEVİR / HAND-OVER: {domain}

Bu klasör bir KEPHS'nin başka bir KEPHS'ye devridir. devir.json bütününü bağlar, devir.p7s onu imzalar.
This folder hands one registered e-mail provider over to another. devir.json binds it, devir.p7s signs it.

1. İmza / signature (kök sertifikaları başka yoldan edinin / get the roots from elsewhere):
   openssl cms -verify -binary -inform DER -in devir.p7s -content devir.json -CAfile KOKLER.pem \\
       -purpose any -out /dev/null
2. Listeler / lists: devir.json names each file of liste/ with its SHA-256:
   sha256sum liste/*.txt
3. Dosyalar / files: each line of a list is SHA-256, SHA-512, size, name:
   awk '{{print $1 "  " $4}}' liste/*.txt | sha256sum -c --quiet
   awk '{{print $2 "  " $4}}' liste/*.txt | sha512sum -c --quiet
4. Hepsi / everything, with this program:
   kephs hand-over verify KLASOR --trust KOKLER --key ANAHTAR
5. Defter / public ledger:
   kephs ledger audit --old acik/defter/checkpoint --tiles acik/defter --log-key "{vkey}"

acik/ dışındaki dosyalar devir anahtarıyla şifrelidir; anahtar veriden ayrı taşınır.
Files outside acik/ are sealed under the hand-over's key, which travels apart from the data.

Kimlik numaraları anahtarlı özet olarak durur; başka bir KEPHS onları karşılaştıramaz, sahibi yeniden tanır.
Identity numbers are kept as keyed hashes; another provider cannot compare them and identifies holders anew.
"""


def guide(domain: str, vkey: str) -> bytes:
    """Return the page.

    Args:
        domain: of the provider handing over.
        vkey: its ledger's public key.
    """
    return _TEXT.format(domain=domain, vkey=vkey).encode()
