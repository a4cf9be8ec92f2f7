"""What a service leaves open to strangers, or locked to everyone, in words, so that it is said before it is found."""

from __future__ import annotations

import ipaddress

from modelyard.serve.guard.keys import KeyTable
from modelyard.serve.messages import SupervisorJob


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def locked(job: SupervisorJob, table: KeyTable) -> list[str]:
    """Return what of a service nobody can reach, as the key for it was not made yet."""
    found, add = [], f"modelyard keys add {job.service} --label NAME"
    if job.needs_key and not table.keys:
        found.append(f"Nobody can ask `{job.service}` yet: it needs an API key and has none. Make one: {add}")
    if job.management_port is not None and not any(key.manage for key in table.keys):
        found.append(f"Nobody can manage `{job.service}` over HTTP yet: no key may. Make one: {add} --manage")
    return found


def exposures(job: SupervisorJob) -> list[str]:
    """Return what of a service is open beyond this machine without what would protect it."""
    found = []
    if not is_loopback(job.host):
        if not job.needs_key:
            found.append(
                f"Anyone who reaches {job.host} can ask `{job.service}`: it listens beyond this machine and needs no "
                "API key. Set `serving.keys: true`, or listen on 127.0.0.1."
            )
        elif job.tls_cert is None:
            found.append(
                f"API keys of `{job.service}` cross the network in the clear: it listens on {job.host} without TLS. "
                "Set `serving.tls_cert` and `serving.tls_key`, or put a proxy with TLS before it."
            )
    if job.management_port is not None and not is_loopback(job.management_host) and job.tls_cert is None:
        found.append(
            f"Keys that may manage `{job.service}` cross the network in the clear: its management address is "
            f"{job.management_host} without TLS. Set `serving.tls_cert` and `serving.tls_key`, or let it be 127.0.0.1."
        )
    return found
