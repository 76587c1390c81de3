"""Logs: events with fields, one JSON line each, without content or addresses (KEP-RT-03)."""

import logging
import sys

import structlog


def configure_logging(*, verbose: bool) -> None:
    """Write events as JSON lines to standard error; ``verbose`` adds the debug ones."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)  # libraries: only what went wrong
