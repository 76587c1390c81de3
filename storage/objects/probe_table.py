"""The 37 points of the probe: what an archive's store must do or refuse. Numbers and codes never change."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Point:
    """One point. ``short``: looked at on every start, too."""

    number: int
    code: str
    expected: str
    cure: str
    cure_turkish: str
    short: bool = False


_LOCK: Final = (
    "make a new bucket with object lock (it cannot be added everywhere) and archive there",
    "nesne kilidi (Object Lock) açık yeni bir kova oluşturun, arşivi oraya taşıyın",
)
_VERSIONS: Final = (
    "switch versioning of the bucket on and find out who switched it off",
    "kovada sürümlemeyi açın; kimin kapattığını araştırın",
)
_RIGHTS: Final = (
    "give the key the rights in docs/archive.md, no more",
    "anahtara docs/archive.md'deki yetkileri verin, fazlasını değil",
)
_NO_WORM: Final = (
    "do not archive here: this server lets archived objects go; use one that keeps COMPLIANCE locks",
    "burada arşivlemeyin, sunucu kilitli nesneleri siliyor: COMPLIANCE kilidini uygulayan sunucu kullanın",
)
_BROKEN: Final = (
    "do not archive here before the server's maker has explained it",
    "sunucunun üreticisi açıklayıncaya kadar burada arşivlemeyin",
)
_CLOCK: Final = ("set the clocks here and there by NTP", "iki tarafın saatlerini NTP ile eşitleyin")
_DEFAULT: Final = (
    "set a default retention in COMPLIANCE mode on the bucket, 20 years in production",
    "kovaya COMPLIANCE kipinde varsayılan saklama süresi koyun; üretimde 20 yıl",
)

POINTS: Final = (
    Point(1, "bucket-there", "the bucket is there and the key may look at it", *_RIGHTS, short=True),
    Point(2, "lock-on", "object lock is on for the bucket", *_LOCK, short=True),
    Point(3, "versioning-on", "versioning is on", *_VERSIONS, short=True),
    Point(4, "clock", "the server's clock is within a minute of ours", *_CLOCK, short=True),
    Point(5, "default-retention", "the bucket's default retention is in COMPLIANCE mode", *_DEFAULT),
    Point(6, "put-version", "writing under retention gives a version", *_VERSIONS, short=True),
    Point(
        7, "retention-kept", "the retention asked for is what is kept, in COMPLIANCE mode", *_LOCK, short=True
    ),
    Point(8, "default-applied", "what is written without retention gets the default one", *_DEFAULT),
    Point(9, "metadata-kept", "digests in the metadata come back", *_BROKEN, short=True),
    Point(10, "read-back", "the octets come back by version, both digests right", *_BROKEN, short=True),
    Point(11, "range-read", "a range of the octets comes back", *_BROKEN),
    Point(12, "delete-refused", "deleting the version is refused", *_NO_WORM, short=True),
    Point(13, "bulk-delete-refused", "deleting it in bulk is refused", *_NO_WORM),
    Point(
        14, "bypass-delete-refused", "deleting it with the bypass header is refused", *_NO_WORM, short=True
    ),
    Point(15, "bulk-bypass-refused", "deleting it in bulk with the bypass header is refused", *_NO_WORM),
    Point(16, "still-there", "after these tries it is read as before", *_NO_WORM, short=True),
    Point(17, "shorten-refused", "shortening the retention is refused", *_NO_WORM, short=True),
    Point(18, "bypass-shorten-refused", "shortening with the bypass header is refused", *_NO_WORM),
    Point(19, "mode-change-refused", "changing the mode to GOVERNANCE is refused", *_NO_WORM, short=True),
    Point(20, "clear-refused", "taking the retention away is refused", *_NO_WORM),
    Point(21, "extend-allowed", "extending the retention is allowed", *_RIGHTS),
    Point(22, "extend-kept", "the longer retention is what is kept", *_BROKEN),
    Point(23, "overwrite-new-version", "overwriting makes another version", *_VERSIONS),
    Point(24, "old-version-read", "the overwritten version is read as before", *_NO_WORM),
    Point(25, "old-version-locked", "deleting the overwritten version is refused", *_NO_WORM),
    Point(26, "marker-hides", "deleting without a version only hides: a marker", *_VERSIONS),
    Point(27, "marked-version-read", "the hidden version is read as before", *_NO_WORM),
    Point(28, "versions-listed", "all versions and the marker are listed", *_RIGHTS),
    Point(
        29, "wrong-version-refused", "a version that does not exist is not answered with another", *_BROKEN
    ),
    Point(30, "past-refused", "a retention that ends in the past is refused", *_BROKEN),
    Point(31, "half-lock-refused", "a date without a mode is refused", *_BROKEN),
    Point(32, "hold-set", "a legal hold can be set and is seen", *_RIGHTS),
    Point(33, "hold-blocks", "what is held can be deleted by no header", *_NO_WORM),
    Point(34, "hold-cleared", "the hold can be lifted, the retention stays", *_NO_WORM),
    Point(35, "multipart", "100 MB in parts come back, both digests right", *_BROKEN),
    Point(36, "multipart-locked", "deleting what came in parts is refused", *_NO_WORM),
    Point(37, "suspend-refused", "switching versioning off is refused", *_NO_WORM),
)

BY_CODE: Final[Mapping[str, Point]] = MappingProxyType({point.code: point for point in POINTS})
