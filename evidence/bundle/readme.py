"""``BENIOKU.txt``: how a stranger checks a bundle with openssl, xmlsec1 and a shell alone.

The text is for people; its lines that begin with four spaces are a bash script, in order, and a test runs
exactly those. Only what is in the bundle is described. The script trusts nothing inside: roots, and the
ledger's key, come from the reader.
"""

from dataclasses import dataclass
from typing import Final

INDENT: Final = "    "
"""What every line of a command begins with, and no other line does."""


@dataclass(frozen=True, slots=True)
class ReadmeFacts:
    """What a bundle holds. ``original_at`` is where in the KEP message the original begins, in octets."""

    message_id: str
    dispatch: bool = True
    original_at: int | None = None
    sender_signed: bool = True
    sender_record: bool = False
    sender_exact: bool = True
    batch: bool = False
    ocsp: bool = True
    crl: bool = False
    ledger: bool = False
    destroyed: bool = False


def readme(facts: ReadmeFacts) -> str:
    """Return the text."""
    sections = [_PREPARE, _FILES, _MANIFEST, _evidence_section(facts), _EMBEDDED]
    if facts.batch or facts.sender_record:
        sections.append(_BATCH)
    sections.append(_DESTROYED if facts.destroyed else _message_section(facts))
    if facts.ocsp or facts.crl:
        sections.append(_revocation_section(facts))
    if facts.ledger:
        sections.append(_LEDGER)
    sections.append(_END)
    numbered = [f"{number}. {section}" for number, section in enumerate(sections, 1)]
    return _INTRODUCTION.replace("@ID@", facts.message_id) + "\n".join(numbered) + "\n" + _CLOSING


def commands(text: str) -> str:
    """Return the script that stands in the text."""
    lines = text.splitlines()
    return "".join(f"{line.removeprefix(INDENT)}\n" for line in lines if line.startswith(INDENT))


_INTRODUCTION: Final = r"""KEP DELİL PAKETİ / REGISTERED E-MAIL EVIDENCE BUNDLE
@ID@

Bu paket tek bir KEP iletisinin orijinalini ve bütün delillerini taşır. Doğrulamak için göndericiye,
alıcıya veya KEPHS'ye bağlanmak gerekmez; ağ bağlantısı da gerekmez.
This archive holds the original of one registered e-mail and all its evidence. Nobody needs to be asked,
and no network is needed, to check it.

KISA YOL / THE SHORT WAY
  kephs verify PAKET.kepdelil --trust KOKLER

YAYGIN ARAÇLARLA / WITH COMMON TOOLS: bash, coreutils, openssl (3.0+), xmlsec1
Dört boşlukla başlayan satırlar sırayla çalıştırılacak komutlardır. Önce okuyun, sonra paketi boş bir
klasöre açın, bu klasörde hepsini birden çalıştırın. Bir adım tutmazsa komut durur ve hata kodu verir;
hepsi tutarsa son satır "TAMAM / ALL HOLDS" olur.
Lines that begin with four spaces are commands, in order. Read them first; unpack the archive into an
empty folder and run them all there. Where a step does not hold they stop with an error; if all hold,
the last line is "TAMAM / ALL HOLDS".

  sed -n 's/^    //p' BENIOKU.txt > /tmp/denetle.sh
  KOKLER=/yol/kokler bash /tmp/denetle.sh

KOKLER: güvendiğiniz kök sertifikaların klasörü, her dosyada bir kök (PEM): KEPHS'lerin, zaman damgası
makamının ve göndericinin sertifika sağlayıcısının kökleri. Bu paketten ALMAYIN: kokler/ yalnız bilgi
içindir; parmak izlerini yetkili makamın ilan ettikleriyle karşılaştırabilirsiniz.
KOKLER: a folder with the roots you trust, one per file (PEM): those of the providers, of the time-stamping
authority and of the sender's certificate authority. Do NOT take them from this archive: kokler/ is
information; compare its fingerprints with those that the authority publishes.
ZAMAN (isteğe bağlı / optional): sertifikaların süresi dolduysa denetim zamanı, saniye (date +%s); yazılan
damga zamanlarının sonuncusunu verin. If certificates have expired: the time to check at, in seconds since
1970; give the latest of the times that the stamps prove.

"""

_PREPARE: Final = r"""HAZIRLIK / PREPARATION

    set -euo pipefail; export LC_ALL=C TZ=UTC
    test -d "$KOKLER"; test -f kayit/manifest.json
    G=$(mktemp -d); trap 'rm -rf "$G"' EXIT
    dur() { echo "TUTMADI / DOES NOT HOLD: $*" >&2; exit 1; }
    cat "$KOKLER"/*.pem > "$G/kok.pem"
    Z=(); S=(); X=(); for k in "$KOKLER"/*.pem; do X+=(--trusted-pem "$k"); done
    if [ -n "${ZAMAN:-}" ]; then
      Z=(-attime "$ZAMAN"); S=("${Z[@]}")
      X+=(--verification-time "$(date -d "@$ZAMAN" '+%Y-%m-%d %H:%M:%S')")
    fi
"""

_FILES: Final = r"""DOSYA LİSTESİ / LIST OF FILES
Hiçbir dosya eksik, fazla veya değişmiş değil. No file is missing, added or changed.

    awk -F'"' '/^ *"name":/ {n=$4} /^ *"sha256":/ {print $4 "  " n}' kayit/manifest.json > "$G/liste"
    sha256sum --strict --quiet -c "$G/liste"
    cut -c67- "$G/liste" | sort > "$G/listede"
    find . -type f ! -path './kayit/manifest.*' | sed 's,^\./,,' | sort | diff "$G/listede" -
"""

_MANIFEST: Final = r"""LİSTENİN İMZASI VE ZAMAN DAMGASI / SIGNATURE AND TIME STAMP OF THE LIST
İmzalayan KEPHS'nin işlem sertifikası olmalı: adını delillerdeki EvidenceIssuerDetails ile karşılaştırın.
The signer must be the provider's transaction certificate: compare the name with EvidenceIssuerDetails.

    imza() { openssl cms -verify -cades -purpose any -CAfile "$G/kok.pem" "${Z[@]}" "$@" -out /dev/null; }
    parca() { dd if="$1" bs=1 skip="$2" count="$3" status=none; }
    yer() { sed -nE "s/^ *([0-9]+):d=$1 +hl= *([0-9]+) +l= *([0-9]+) +$2.*/\1 \2 \3/p" | head -n1; }
    damga() {  # CMS imzasının zaman damgası / the time stamp of a CMS signature
      openssl asn1parse -inform DER -in "$1" > "$G/asn"
      read -r o h l < <(yer 5 'prim: OCTET STRING' < "$G/asn"); parca "$1" $((o + h)) "$l" > "$G/deger"
      sed -n '/id-smime-aa-timeStampToken/,$p' "$G/asn" > "$G/asn2"
      read -r o h l < <(yer 8 'cons: SEQUENCE' < "$G/asn2"); parca "$1" "$o" $((h + l)) > "$G/jeton"
      jeton -data "$G/deger"
    }
    jeton() {  # $G/jeton, verilen özeti mi damgalıyor / does $G/jeton stamp what is given
      openssl ts -verify -token_in -in "$G/jeton" "$@" -CAfile "$G/kok.pem" "${Z[@]}" > "$G/ts" 2>&1 \
        || { cat "$G/ts" >&2; dur "zaman damgası / time stamp"; }
      openssl ts -reply -token_in -in "$G/jeton" -token_out -text 2> /dev/null | grep -a 'Time stamp:'
    }
    imza -inform DER -in kayit/manifest.p7s -content kayit/manifest.json -binary
    damga kayit/manifest.p7s
    openssl cms -verify -inform DER -in kayit/manifest.p7s -content kayit/manifest.json -binary \
      -noverify -signer "$G/imzalayan.pem" -out /dev/null 2> /dev/null
    openssl x509 -in "$G/imzalayan.pem" -noout -subject -nameopt utf8,sep_comma_plus
"""

_EVIDENCE: Final = r"""DELİLLER / EVIDENCE
Her delilin imzası tutuyor, belgenin tamamını kapsıyor ve bu iletiyi anlatıyor: içindeki DigestValue,
ileti/original.eml dosyasının SHA-256 özetidir. Every signature holds, covers its whole document, and the
evidence is about this message: its DigestValue is the SHA-256 of ileti/original.eml.

    O=$(openssl dgst -sha256 -binary ileti/original.eml | openssl base64 -A)
    for d in delil/*.xml; do
      echo "$d"
      [ "$(grep -oE '<([A-Za-z]+:)?Signature[ >]' "$d" | wc -l)" = 1 ] || dur "$d: tek imza / one signature"
      grep -q '<[A-Za-z:]*Reference [^>]*URI=""' "$d" || dur "$d: tüm belge / whole document"
      grep -qF ">$O<" "$d" || dur "$d: başka ileti / another message"
      xmlsec1 --verify --id-attr:Id SignedProperties "${X[@]}" "$d" > "$G/xml" 2>&1 \
        || { cat "$G/xml" >&2; dur "$d: imza / signature"; }
      grep -o '<EventTime>[^<]*' "$d" | sed 's/.*>/  EventTime /'
    done
"""

_EMBEDDED: Final = r"""DELİLİN İÇİNDEKİ ZAMAN DAMGASI / TIME STAMPS INSIDE EVIDENCE
Damga, SignatureValue öğesinin kanonik biçimini kapsar (XAdES-T); burada kephs'nin yazdığı biçim için.
The stamp covers the canonical form of SignatureValue (XAdES-T); this is for the form that kephs writes.

    NS='xmlns:ds="http://www.w3.org/2000/09/xmldsig#"'
    for d in delil/*.xml; do
      grep -q 'EncapsulatedTimeStamp' "$d" || continue
      b=$(grep -o '<ds:SignatureValue>[^<]*</ds:SignatureValue>' "$d") \
        || { echo "$d: kephs verify"; continue; }
      grep -oE 'EncapsulatedTimeStamp[^>]*>[A-Za-z0-9+/=]{99,}' "$d" | cut -d'>' -f2 | head -n1 > "$G/b64"
      openssl base64 -d -A -in "$G/b64" > "$G/jeton"
      echo "$d"
      jeton -digest "$(printf %s "${b/<ds:SignatureValue>/<ds:SignatureValue $NS>}" | sha256sum | cut -c1-64)"
    done
"""

_BATCH: Final = r"""YANINDAKİ ZAMAN DAMGASI / TIME STAMPS BESIDE (.ers, RFC 4998)
Bir damga birçok dosyayı birden kanıtlar: dosyanın SHA-256 özeti, yol.txt satırlarındaki komşu özetlerle
sırayla (küçükten büyüğe dizip birleştirerek) özetlenir; sonuç, .tsr içindeki damganın özetidir. Yol ve damga,
.ers dosyasının içindekilerdir. imza.ers, KEPHS'nin kabul anında imza.p7s üzerine aldığı damgadır.
One token proves many: the SHA-256 of the file is hashed with each line of yol.txt (values in ascending order,
joined); the result is what the token stamps. Path and token are the .ers file's. imza.ers is the provider's
stamp, made at reception, over the sender's signature (imza.p7s).

    onalti() { od -An -v -tx1 "$1" | tr -d ' \n'; }
    ikilik() { printf '%b' "$(sed 's/../\\x&/g')"; }
    for d in delil/*.ers imza.ers; do
      [ -f "$d" ] || continue
      s=${d%.ers}; e=$(onalti "$d"); echo "$d"; v="$s.xml"; [ "$d" != imza.ers ] || v=imza.p7s
      n=$(sha256sum < "$v" | cut -c1-64)
      { read -r t; while read -r k; do
          for x in $k; do [[ $e == *$x* ]] || dur "$d: yol / path"; done
          n=$(printf '%s\n' "$n" $k | sort | tr -d '\n' | ikilik | sha256sum | cut -c1-64)
        done; } < "$s.yol.txt"
      openssl ts -reply -in "dogrulama/$t" -token_out -out "$G/jeton" 2> /dev/null
      [[ $e == *$(onalti "$G/jeton")* ]] || dur "$d: damga / token"
      jeton -digest "$n"
      openssl ts -verify -digest "$n" -in "dogrulama/$t" -CAfile "$G/kok.pem" "${Z[@]}" > /dev/null 2>&1
    done
"""

_MESSAGE: Final = r"""İLETİ / THE MESSAGE
KEP iletisinin (KEPHS) ve orijinalin (gönderici) imzaları; KEP iletisindeki orijinal buradakinin aynısı.
Signatures on the KEP message (provider) and on the original (holder); the original inside is this one.
"""

_DESTROYED: Final = r"""İLETİ / THE MESSAGE
İletinin içeriği imha edilmiştir; ileti/imha.json ne zaman ve neden olduğunu söyler. Deliller duruyor: kimde
bir kopya varsa, SHA-256 özeti delillerdekiyle karşılaştırılabilir (sha256sum KOPYA.eml).
The content of the message is destroyed; ileti/imha.json says when and why. The evidence stays: whoever has a
copy can compare its SHA-256 with the evidence (sha256sum COPY.eml).
"""
_DIGEST_TR: Final = "ileti/imha.json dosyasındaki özettir"
_DIGEST_EN: Final = "its DigestValue is the one in ileti/imha.json"
_DIGEST_COMMAND: Final = (
    r"""O=$(sed -nE 's/^ *"original_sha256_base64": "([^"]+)".*/\1/p' ileti/imha.json)"""
    "\n"
    r"""    [ ${#O} = 44 ] || dur ileti/imha.json"""
)

_SENDER: Final = r"""
Gönderici imzası, KEPHS'nin ona aldığı damganın (imza.ers) zamanında denetlenir; imza.p7s orijinaldekidir.
The sender's signature is checked for the time of the provider's stamp over it (imza.ers); imza.p7s is the one
in the original.

    A=(-CAfile "$G/ara.pem"); cp "$G/kok.pem" "$G/ara.pem"
    for c in dogrulama/gonderici-*.cer; do  # ara sertifikalar; kök olamazlar / intermediates, never roots
      [ -f "$c" ] || continue
      h=$(openssl x509 -inform DER -in "$c" -noout -subject_hash -issuer_hash | sort -u | wc -l)
      if [ "$h" = 2 ]; then openssl x509 -inform DER -in "$c" >> "$G/ara.pem"; fi
    done
    tr -d ' \t\r\n' < ileti/original.eml | grep -qFf <(openssl base64 -A -in imza.p7s; echo) \
      || dur "imza.p7s: orijinalde yok / not in the original"
"""

_SENDER_TIME: Final = r"""
    t=$(openssl ts -reply -in "dogrulama/$(head -n1 imza.yol.txt)" -text 2> /dev/null \
      | sed -n 's/^Time stamp: //p' | sed 's/\.[0-9]* / /')
    S=(-attime "$(date -d "$t" +%s)")
"""

_SENDER_CHECK: Final = r"""
    imza "${A[@]}" "${S[@]}" -in ileti/original.eml
"""

_SENDER_OTHERWISE: Final = """
Göndericinin programı satır sonlarını başka biçimde imzaladı; bu imzayı kephs verify denetler, openssl değil.
The sender's program signed other line ends than it sent: kephs verify checks that signature, openssl cannot.
"""

_REVOCATION: Final = r"""İPTAL BİLGİSİ / REVOCATION
Her cevap yetkilisince imzalı. "revoked" yazıyorsa iptal zamanını damga zamanlarıyla karşılaştırın: damgadan
sonraki iptal delili bozmaz. Every answer is signed by its authority. Where it says "revoked", compare its
time with the stamps: a revocation after the stamp does no harm.

    mkdir "$G/s"
    sakla() {  # sertifikayı parmak iziyle / a certificate under its fingerprint
      openssl x509 "$@" -out "$G/x.pem"
      p=$(openssl x509 -in "$G/x.pem" -noout -fingerprint -sha256 | sed 's/.*=//; s/://g' | tr A-F a-f)
      mv "$G/x.pem" "$G/s/${p:0:16}.pem"
    }
    ayir() { awk -v g="$G" '/BEGIN CERT/ {n++} n {print > (g "/c" n)}'; }
    {
      cat "$G/kok.pem"
      for p in kayit/manifest.p7s imza.p7s; do
        if [ -f "$p" ]; then openssl pkcs7 -inform DER -in "$p" -print_certs; fi
      done
      for t in dogrulama/*.tsr; do
        if [ -f "$t" ]; then
          openssl ts -reply -in "$t" -token_out 2> /dev/null | openssl pkcs7 -inform DER -print_certs
        fi
      done
      openssl pkcs7 -inform DER -in "$G/jeton" -print_certs
    } | ayir
    for c in "$G"/c[0-9]*; do sakla -in "$c"; done
    for c in dogrulama/*.cer; do if [ -f "$c" ]; then sakla -inform DER -in "$c"; fi; done
    cat delil/*.xml | tr -d ' \r\n' | grep -oE 'X509Certificate>[A-Za-z0-9+/=]{99,}' | cut -d'>' -f2 \
      | sort -u | while read -r b; do
        printf %s "$b" | openssl base64 -d -A > "$G/x.der"; sakla -inform DER -in "$G/x.der"
      done
    cat "$G"/s/*.pem > "$G/hepsi.pem"
    for c in "$G"/s/*.pem; do echo "$(openssl x509 -in "$c" -noout -subject_hash) $c"; done > "$G/adlar"
    veren() {  # sertifikayı veren / the issuer of a certificate
      h=$(openssl x509 -in "$1" -noout -issuer_hash)
      while read -r a x; do
        [ "$a" = "$h" ] || continue
        if openssl verify -no_check_time -partial_chain -trusted "$x" "$1" > /dev/null 2>&1; then
          echo "$x"; return
        fi
      done < "$G/adlar"
    }
"""

_OCSP: Final = r"""
    for f in dogrulama/*.ocsp; do
      b=$(basename "$f" .ocsp); c="$G/s/${b##*-}.pem"
      test -f "$c" || { echo "$f: sertifikası burada yok / not its certificate here"; continue; }
      Y=("${Z[@]}"); case $f in */gonderici-*) Y=("${S[@]}") ;; esac
      openssl ocsp -respin "$f" -issuer "$(veren "$c")" -cert "$c" -CAfile "$G/kok.pem" \
        -no_nonce -verify_other "$G/hepsi.pem" -validity_period 3000000000 "${Y[@]}" \
        > "$G/ocsp" 2> "$G/ocsp2" || { cat "$G/ocsp2" >&2; dur "$f"; }
      grep -q 'verify OK' "$G/ocsp2" || dur "$f: imza / signature"
      grep -qE ': (good|revoked)' "$G/ocsp" || dur "$f: cevap yok / no answer"
      openssl x509 -in "$c" -noout -subject -nameopt utf8,sep_comma_plus
      grep -E ': (good|revoked)|Revocation Time' "$G/ocsp" | sed 's/^.*: /  /'
    done
"""

_CRL: Final = r"""
    for f in dogrulama/*.crl; do
      openssl crl -inform DER -in "$f" -noout -CAfile "$G/hepsi.pem" 2>&1 | grep -q 'verify OK' || dur "$f"
      openssl crl -inform DER -in "$f" -noout -text > "$G/crl"
      openssl crl -inform DER -in "$f" -noout -issuer
      for c in "$G"/s/*.pem; do
        n=$(openssl x509 -in "$c" -noout -serial | cut -d= -f2)
        if grep -qE "Serial Number: 0*$n\$" "$G/crl"; then echo "  revoked: $n"; fi
      done
    done
"""

_LEDGER: Final = r"""KAYIT / LEDGER (RFC 9162, C2SP tlog-proof)
Her delil, KEPHS'nin kayıt ağacındadır: kayit/*.proof, kayit/checkpoint içindeki köke götürür. Kökün kendisine
kefil olan, KEPHS'nin kayıt anahtarıdır; başka yerden aldıysanız KAYIT_ANAHTARI olarak verin
(ad+kimlik+base64). Every evidence stands in the provider's tree: kayit/*.proof leads to the root in
kayit/checkpoint. What vouches for that root is the log's key; give it as KAYIT_ANAHTARI (name+id+base64) if
you have it from elsewhere.

    onalti() { od -An -v -tx1 "$1" | tr -d ' \n'; }
    ikilik() { printf '%b' "$(sed 's/../\\x&/g')"; }
    ozet() { ikilik | sha256sum | cut -c1-64; }
    coz() { printf %s "$1" | openssl base64 -d -A > "$G/b64"; onalti "$G/b64"; }
    kok=$(coz "$(sed -n 3p kayit/checkpoint)"); boy=$(sed -n 2p kayit/checkpoint)
    sed '/^$/,$d' kayit/checkpoint > "$G/metin"
    for p in kayit/*.proof; do
      s=$(basename "$p" .proof); d="delil/$s.xml"; echo "$p"
      sed '1,/^$/d' "$p" | sed '/^$/,$d' | cmp - "$G/metin" || dur "$p: checkpoint"
      tuz=$(coz "$(sed -n 's/^extra //p;/^$/q' "$p")"); i=$(sed -n 's/^index //p;/^$/q' "$p")
      n=$(printf %s "$tuz$(sha256sum < "$d" | cut -c1-64)" | ozet); n=$(printf %s "00$n" | ozet)
      [ "$i" -lt "$boy" ] || dur "$p"
      son=$((boy - 1))
      while read -r k; do
        k=$(coz "$k"); [ "$son" -gt 0 ] || dur "$p"
        if [ $((i & 1)) = 1 ] || [ "$i" = "$son" ]; then
          n=$(printf %s "01$k$n" | ozet)
          while [ $((i & 1)) = 0 ] && [ "$i" != 0 ]; do i=$((i >> 1)); son=$((son >> 1)); done
        else
          n=$(printf %s "01$n$k" | ozet)
        fi
        i=$((i >> 1)); son=$((son >> 1))
      done < <(sed '/^$/,$d' "$p" | sed 1,3d)
      [ "$son" = 0 ] && [ "$n" = "$kok" ] || dur "$p"
    done
    if [ -n "${KAYIT_ANAHTARI:-}" ]; then
      a=$(printf %s "$KAYIT_ANAHTARI" | cut -d+ -f3-); a=$(coz "$a" | cut -c3-)
      printf %s "302a300506032b6570032100$a" | ikilik > "$G/anahtar"
      ad=$(printf %s "$KAYIT_ANAHTARI" | sed 's/+.*//'); bulundu=
      while read -r _ a v; do
        [ "$a" = "$ad" ] || continue
        coz "$v" | cut -c9- | ikilik > "$G/imza"
        openssl pkeyutl -verify -pubin -keyform DER -inkey "$G/anahtar" -rawin -in "$G/metin" \
          -sigfile "$G/imza" > /dev/null && bulundu=1
      done < <(sed '1,/^$/d' kayit/checkpoint)
      [ -n "$bulundu" ] || dur "kayit/checkpoint: imza / signature"
    else
      echo "KAYIT_ANAHTARI yok: köke kimse kefil değil / nobody vouches for the root"
    fi
"""

_END: Final = r"""SONUÇ / RESULT

    echo "TAMAM / ALL HOLDS"
"""

_CLOSING: Final = """
NE NEREDE / WHAT IS WHERE
- delil/: *.xml delil (XAdES), *.ers zaman damgası kaydı (RFC 4998), *.yol.txt onun yolu.
  Evidence; evidence records; their paths as text.
- dogrulama/: *.ocsp (RFC 6960), *.crl (RFC 5280), *.tsr (RFC 3161).
- ileti/: orijinal ve KEP iletisi. The original and the KEP message.
- kayit/: dosya listesi, imzası, kayıt kanıtları. The list of files, its signature, proofs of the ledger.
- kokler/: kökler ve parmak izleri, yalnız bilgi. Roots and their fingerprints, information only.
- imza.p7s: göndericinin imzası; imza.ers: KEPHS'nin kabul anında ona aldığı zaman damgası; imza.yol.txt: onun
  yolu; imza-rapor.json: KEPHS'nin kabul anındaki kararı.
  The holder's signature; the provider's time stamp over it, made at reception; its path; the verdict then.
- dogrulama/gonderici-*: göndericinin sertifikası hakkında kabul anında alınanlar.
  What was got at reception about the holder's certificate.
"""


def _evidence_section(facts: ReadmeFacts) -> str:
    """Return how evidence is checked: against the original, or against the digest of a destroyed one."""
    if not facts.destroyed:
        return _EVIDENCE
    return (
        _EVIDENCE.replace("ileti/original.eml dosyasının SHA-256 özetidir", _DIGEST_TR)
        .replace("its DigestValue is the SHA-256 of ileti/original.eml", _DIGEST_EN)
        .replace("O=$(openssl dgst -sha256 -binary ileti/original.eml | openssl base64 -A)", _DIGEST_COMMAND)
    )


def _message_section(facts: ReadmeFacts) -> str:
    lines = []
    if facts.dispatch:
        lines += [
            "imza -in ileti/dispatch.eml",
            'openssl cms -cmsout -in ileti/dispatch.eml -outform DER -out "$G/zarf"',
            'damga "$G/zarf"',
        ]
    if facts.original_at is not None:
        lines.append("n=$(stat -c %s ileti/original.eml)")
        lines.append(f'cmp -n "$n" -i {facts.original_at}:0 ileti/dispatch.eml ileti/original.eml')
    text = "\n".join([_MESSAGE, *(f"{INDENT}{line}" for line in lines), ""])
    if facts.sender_signed:
        text += _SENDER + (_SENDER_TIME if facts.sender_record else "")
        text += _SENDER_CHECK if facts.sender_exact else _SENDER_OTHERWISE
    return text


def _revocation_section(facts: ReadmeFacts) -> str:
    return _REVOCATION + (_OCSP if facts.ocsp else "") + (_CRL if facts.crl else "")
