"""TLS for the doors: one context from a certificate and its key."""

from __future__ import annotations

import ssl
from pathlib import Path

from modelyard.errors import UsageError


def server_context(cert: str | None, key: str | None) -> ssl.SSLContext | None:
    """Return the context of a server with that certificate (PEM, its chain behind it); None where none is wanted.

    TLS 1.2 and later. Raises: UsageError naming the file where one is missing, cannot be read, or they do not match.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise UsageError("TLS needs both a certificate and its key; only one of the two is set.")
    for name, path in (("certificate", cert), ("key", key)):
        try:
            with Path(path).open("rb") as file:
                if b"-----BEGIN " not in file.read():
                    raise UsageError(f"The TLS {name} `{path}` is not a PEM file: it has no `-----BEGIN` line.")
        except OSError as fault:
            raise UsageError(f"The TLS {name} `{path}` cannot be read: {fault.strerror}.") from fault
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as fault:
        why = "they do not belong together" if fault.reason == "KEY_VALUES_MISMATCH" else str(fault.reason or fault)
        raise UsageError(f"The TLS certificate `{cert}` and key `{key}` cannot be used: {why}.") from fault
    return context


def _no_password() -> str:
    """Answer in place of the terminal: a service starts without a person."""
    raise UsageError("The TLS key is locked with a password; a service needs one that is not. Bound it by its mode.")
