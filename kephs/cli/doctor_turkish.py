"""What each finding of `kephs doctor` that is not well means in Turkish, with its cure; by stable code."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

TURKISH: Final[Mapping[str, str]] = MappingProxyType(
    {
        "clock": "sistem saati yanlış: saati ayarlayın, NTP ile eşitli tutun",
        "clock-tsa": "saat, zaman damgası sunucusundan sapıyor ya da karşılaştırılamadı: NTP ile eşitleyin",
        "database": "veritabanı okunamıyor: sunucuyu durdurun, aynı yedekten geri yükleyin",
        "database-unsafe": "veritabanı sunucusu elektrik kesintisinde veri yitirebilir: ayarı açın",
        "disk": "disk alanı azalıyor ya da klasör yok: yer açın",
        "disk-files": "dosya sayısı sınırına yaklaşılıyor: daha çok inode'lu dosya sistemi hazırlayın",
        "exposed": "başkaları okuyabilir ya da değiştirebilir: izinleri yalnızca sahibine bırakın",
        "folder-open": "başkaları klasörün içini görebilir: izinleri yalnızca sahibine bırakın",
        "key-device": "imza anahtarının donanımı kullanılamıyor: [seal] pkcs11_* ve PIN dosyasını denetleyin",
        "key-file": "işlem anahtarı dosyada duruyor: HSM kullanın (seal.pkcs11_module)",
        "key-exposed": "anahtar dosyasını başkaları okuyabilir: chmod 600",
        "key-form": "anahtar dosyası bozuk: yedeğinden geri yükleyin",
        "key-missing": "anahtar dosyası yok: yedeğinden geri yükleyin",
        "key-wrong": "anahtar bu kurulumun anahtarı değil: doğru anahtarı yerine koyun",
        "ledger-hidden": "defteri dışarıdan kimse okuyamıyor: ledger.port ayarını verin",
        "ledger-key": "defter anahtarı yok ya da bozuk: yedekten alın ya da kephs ledger key DIR --make",
        "ledger-unwitnessed": "defterin imzalarını kimse onaylamıyor: ledger.witnesses'a tanık ekleyin",
        "master-key-backup": "ana anahtarın yedeği belirtilmemiş: yedekleyin, sonra ayarı true yapın",
        "peer-certificate": "karşı sağlayıcının kayıtlı sertifikası bitiyor: yeni kayıt isteyin",
        "peer-extension": "karşı sağlayıcı gereken SMTP uzantısını sunmuyor: sağlayıcıya bildirin",
        "peer-pin": "karşı sunucunun sertifikası kayıtlı değil: aktarılmaz; yeni kayıt alın, telefonla sorun",
        "peer-size": "karşı sunucunun boyut sınırı kayıttakinden küçük: sağlayıcıya bildirin",
        "peer-tls": "karşı sunucu şifreli bağlantı sunmuyor: sağlayıcıya bildirin",
        "peer-unreachable": "karşı sunucu yanıt vermiyor: ağı ve güvenlik duvarını denetleyin",
        "port-imap": "IMAP kapısı kullanılamıyor: kapıyı boşaltın ya da [network] ayarını değiştirin",
        "port-inbound": "sağlayıcılar arası SMTP kapısı kullanılamıyor: boşaltın ya da ayarı değiştirin",
        "port-metrics": "ölçüm kapısı kullanılamıyor: boşaltın ya da network.metrics_port'u değiştirin",
        "port-submission": "gönderim kapısı kullanılamıyor: boşaltın ya da [network] ayarını değiştirin",
        "provider-domain": "sağlayıcının alan adı yanlış: provider.domain'i düzeltin",
        "queue": "aktarım sırası okunamıyor: veritabanı bulgusuna bakın",
        "queue-held": "durdurulmuş aktarımlar var, süreleri işliyor: gerekçe kalkınca serbest bırakın",
        "queue-old": "bir saatten uzun süredir aktarılamayan ileti var: kephs queue list nedenleri gösterir",
        "queue-receipts": "aktarılamayan alındılar var: kephs queue retry DIR --all ile yeniden gönderin",
        "register": "sağlayıcı kaydı kullanılamıyor: geçerli bir kayıt dosyası alın",
        "register-next": "sağlayıcı kaydının süresi doluyor: yeni kaydı alın",
        "register-none": "sağlayıcı kaydı yok: başka KEPHS'lerle ileti alışverişi yapılamaz",
        "register-own": "kendi kaydımız eksik ya da eski: kayıt yöneticisine bildirin",
        "register-problem": "yeni kayıt dosyası kullanılamıyor, eskisi geçerli: doğru dosyayı alın",
        "register-stale": "sağlayıcı kaydının süresi doldu, ileti aktarılmıyor: güncel kaydı alın",
        "revocation": "iptal durumu öğrenilemiyor (OCSP ve CRL yanıtsız): ağı denetleyin",
        "revoked": "sertifika iptal edilmiş: durun, yeni sertifika alın",
        "scanner": "zararlı yazılım tarayıcısı yanıt vermiyor, ileti kabul edilmez: clamd'yi başlatın",
        "scanner-blind": "tarayıcı EICAR sınama dosyasını tanımıyor: imzalarını güncelleyin",
        "scanner-none": "iletiler zararlı yazılıma karşı taranmıyor: clamd kurun",
        "schema": "veritabanı şeması bu sürümün değil: sunucuyu durdurup kephs migrate çalıştırın",
        "settings": "ayar dosyası hatalı: kephs.toml'u düzeltin",
        "test-pki": "bu kurulum sınama içindir: delilleri hiçbir şeyi kanıtlamaz",
        "test-pki-down": "TEST PKI çalışmıyor; sunucuyla birlikte başlar: kephs serve",
        "test-root": "güvenilen kökler arasında TEST kökü var: çıkarın",
        "tls-certificate": "TLS sertifikası eksik, hatalı ya da süresi doluyor: yenileyin",
        "tls-name": "TLS sertifikası bu alan adı için değil: istemciler reddeder",
        "transaction-certificate": "işlem sertifikası eksik, hatalı ya da süresi doluyor: yenileyin",
        "transaction-chain": "işlem sertifikasının zinciri köke ulaşmıyor: ara sertifikaları ve kökü ekleyin",
        "transaction-role": "bu sertifika bu sağlayıcının işlem sertifikası değil: doğrusunu edinin",
        "trust": "güvenilen kökler okunamıyor: PEM dosyalarını düzeltin",
        "trust-empty": "güvenilen kök yok: ESHS köklerini ekleyin",
        "tsa": "zaman damgası alınamıyor: seal.tsa'yı ve ağı denetleyin",
        "tsa-account": "zaman damgası hesabı hatalı: seal.tsa_accounts'ı düzeltin",
        "tsa-credits": "zaman damgası kontörü azalıyor ya da bitti: satın alın, credits değerini yükseltin",
        "tsa-certificate": "zaman damgası sertifikasının süresi doluyor: ESHS'ye sorun",
        "tsa-single": "tek zaman damgası sunucusu tanımlı: ikincisini ekleyin",
        "work-overdue": "teslim ya da alındı işleri gecikiyor: sunucu (worker) çalışıyor mu?",
    }
)
_DATABASE: Final = "veritabanı kullanılamıyor: veritabanı sunucusunu ve adresini denetleyin"


def turkish_of(code: str) -> str:
    """Return the sentence for a code; the refusals of a database server share one."""
    return TURKISH.get(code, _DATABASE)
