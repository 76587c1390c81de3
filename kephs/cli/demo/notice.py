"""The notice the demo sends, and how its holder signs it."""

import mimetypes
import secrets
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from typing import Final

from evidence.adapters.soft_signer import SoftSigner
from evidence.mail.smime_sign import sign_message
from kephs.cli.demo.people import DemoAccount

_TEXT: Final = """\
Sayın Yetkili,

6102 sayılı Türk Ticaret Kanunu m.18/3 uyarınca, aramızdaki sözleşmenin yenilenmeyeceğini bildiririz.
Gereğini bilgilerinize sunarız.

(This is a demonstration with TEST certificates; it has no legal effect.)
"""


def compose(sender: DemoAccount, recipient: DemoAccount, at: datetime, attach: Path | None) -> bytes:
    """Return the unsigned notice, with the user's own file attached where one is given."""
    message = EmailMessage(policy=SMTP)
    message["From"] = f"{sender.name} <{sender.address}>"
    message["To"] = f"{recipient.name} <{recipient.address}>"
    message["Subject"] = "İhtarname: sözleşmenin yenilenmeyeceği hakkında"
    message["Date"] = format_datetime(at)
    message["Message-ID"] = f"<{secrets.token_hex(12)}@demo.{sender.provider}>"
    message.set_content(_TEXT, cte="quoted-printable")
    if attach is not None:
        kind = mimetypes.guess_type(attach.name)[0] or "application/octet-stream"
        main, _, sub = kind.partition("/")
        if main in ("message", "multipart"):  # a mail file is carried as it is, not unpacked
            main, sub = "application", "octet-stream"
        message.add_attachment(attach.read_bytes(), maintype=main, subtype=sub, filename=attach.name)
    return message.as_bytes()


async def sign(message: bytes, sender: DemoAccount, at: datetime) -> bytes:
    """Sign as `kephs sign` does, with the holder's qualified TEST certificate."""
    signer = SoftSigner.from_p12(Path(sender.p12), sender.p12_password)
    return await sign_message(message, signer, at, boundary=f"kephs-{secrets.token_hex(16)}")
