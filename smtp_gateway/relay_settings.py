"""What a provider decides about handing messages to peers; `kephs.bootstrap` fills it from the settings."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Limits of the relay's client. Times in seconds, rates in bytes per second.

    Each reply must be complete within its time, however its bytes are spread over it. ``opening_timeout``
    holds for the greeting, EHLO, STARTTLS and the handshake, each; ``envelope_timeout`` for everything from
    MAIL until content may be sent. Content may take ``content_grace`` and its size by ``content_min_rate``.
    """

    connect_timeout: float = 30.0
    opening_timeout: float = 60.0  # spec: RFC5321#4.5.3.2.1 asks for 5 min; peers are few and known
    reply_timeout: float = 300.0  # spec: RFC5321#4.5.3.2.2, RFC5321#4.5.3.2.3
    envelope_timeout: float = 900.0
    content_grace: float = 60.0
    content_min_rate: int = 16_384
    final_timeout: float = 600.0  # spec: RFC5321#4.5.3.2.6
    farewell_timeout: float = 5.0  # for the answers to RSET and QUIT: nothing depends on them
    idle_time: float = 30.0  # how long a connection is kept for the next message
    idle_connections: int = 4  # how many are kept for one peer
    letters_per_connection: int = 100
