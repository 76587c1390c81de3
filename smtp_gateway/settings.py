"""What a provider decides about its SMTP edges; `kephs.bootstrap` fills it from the settings."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """Limits of any listener. Times in seconds, rates in bytes per second, sizes in bytes on the wire."""

    hostname: str
    max_wire: int
    max_recipients: int = 500
    max_sessions: int = 500
    max_sessions_per_network: int = 50
    idle_timeout: float = 300.0  # spec: RFC5321#4.5.3.2.7
    data_idle_timeout: float = 180.0  # spec: RFC5321#4.5.3.2.5
    data_grace: float = 300.0  # after this the minimum rate counts
    data_min_rate: int = 4096
    drain_timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class EdgeSettings(ListenerSettings):
    """Limits of the submission listener."""

    auth_tries: int = 3
    login_timeout: float = 60.0  # from the greeting to a successful AUTH


@dataclass(frozen=True, slots=True)
class InboundSettings(ListenerSettings):
    """Limits of the listener for peers. A session is counted from its first byte in clear, through TLS."""

    first_mail_timeout: float = 60.0  # from the greeting to the first MAIL that is taken
    session_timeout: float = 3600.0  # of the whole session; a message being decided still gets its answer
    handshake_timeout: float = 20.0
