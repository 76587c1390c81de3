"""What a provider decides about the submission edge; `kephs.bootstrap` fills it from the settings."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """Limits of the listener. Times in seconds, rates in bytes per second."""

    hostname: str
    max_wire: int
    max_recipients: int = 500
    max_sessions: int = 500
    max_sessions_per_network: int = 50
    auth_tries: int = 3
    login_timeout: float = 60.0  # from the greeting to a successful AUTH
    idle_timeout: float = 300.0  # spec: RFC5321#4.5.3.2.7
    data_idle_timeout: float = 180.0  # spec: RFC5321#4.5.3.2.5
    data_grace: float = 300.0  # after this the minimum rate counts
    data_min_rate: int = 4096
    drain_timeout: float = 30.0
