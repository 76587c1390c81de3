"""pyHanko's opinion on one signature, in a process of its own; `kephs.cli.proof.second_opinion` starts it.

Arguments: ``cms``, ``opaque`` or ``stamp``, the time, a PEM file of roots, a PEM file of helpers, then
signature and content (of no meaning where it stands inside), or token and imprint. Exit status 0: pyHanko
accepts; 1: it refuses, with the reason on standard error; 70: it could not be asked. Libraries are loaded by
name: the product does not depend on them.
"""

import asyncio
import logging
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Final

BROKE_DOWN: Final = 70


def main(arguments: Sequence[str]) -> int:
    """Give the opinion."""
    logging.disable(logging.CRITICAL)
    what, at, roots, helpers, signature, content = arguments
    try:
        context = _context(datetime.fromisoformat(at), Path(roots), Path(helpers))
        refusal = asyncio.run(_ASKED[what](context, Path(signature), Path(content)))
    except ValueError as error:  # its validation errors are such too
        refusal = str(error) or type(error).__name__
    except Exception as error:  # noqa: BLE001 - another edition of the library, or a defect of it
        print(f"could not be asked: {type(error).__name__}: {error}", file=sys.stderr)
        return BROKE_DOWN
    if refusal:
        print(refusal, file=sys.stderr)
    return 1 if refusal else 0


def _context(at: datetime, roots: Path, helpers: Path) -> Any:
    certificates = import_module("pyhanko.keys").load_certs_from_pemder_data
    helping = helpers.read_bytes()
    return import_module("pyhanko_certvalidator").ValidationContext(
        trust_roots=list(certificates(roots.read_bytes())),
        other_certs=list(certificates(helping)) if helping else [],
        moment=at,
        best_signature_time=at,
        allow_fetching=False,
        revocation_mode="soft-fail",
        time_tolerance=timedelta(seconds=1),
    )


def _signed_data(signature: Path) -> Any:
    info = import_module("asn1crypto.cms").ContentInfo.load(signature.read_bytes(), strict=True)
    return info["content"]


async def _cms(context: Any, signature: Path, content: Path) -> str:
    validation = import_module("pyhanko.sign.validation")
    usage = import_module("pyhanko.sign.validation.settings").KeyUsageConstraints(
        key_usage={"digital_signature", "non_repudiation"}, match_all_key_usages=False
    )
    with content.open("rb") as file:
        status = await validation.async_validate_detached_cms(
            file, _signed_data(signature), signer_validation_context=context, ts_validation_context=context,
            key_usage_settings=usage,
        )  # fmt: skip
    stamp = status.timestamp_validity
    if stamp is not None and not (stamp.valid and stamp.intact and stamp.trusted):
        return f"time stamp: {stamp.summary()}"
    return "" if status.valid and status.intact and status.trusted else str(status.summary())


async def _opaque(context: Any, signature: Path, _content: Path) -> str:
    generic = import_module("pyhanko.sign.validation.generic_cms")
    usage = import_module("pyhanko.sign.validation.settings").KeyUsageConstraints(
        key_usage={"digital_signature", "non_repudiation"}, match_all_key_usages=False
    )
    status = await generic.async_validate_cms_signature(
        _signed_data(signature), validation_context=context, key_usage_settings=usage
    )
    return "" if status.valid and status.intact and status.trusted else str(status.summary())


async def _stamp(context: Any, token: Path, imprint: Path) -> str:
    generic = import_module("pyhanko.sign.validation.generic_cms")
    status_class = import_module("pyhanko.sign.validation.status").TimestampSignatureStatus
    digest = imprint.read_bytes()
    fields = await generic.validate_tst_signed_data(_signed_data(token), context, lambda _: digest)
    status = status_class(**fields)
    return "" if status.valid and status.intact and status.trusted else str(status.summary())


_ASKED: Final = {"cms": _cms, "opaque": _opaque, "stamp": _stamp}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
