"""Measuring a service under load, from outside.

An address and a plan of arrivals enter; what was measured leaves: latencies from the moment each request was due,
failures by kind, throughput, what the server's processes used, and whether any of it had settled. The room must never
assume that the server is ours, wait for an answer before the next request is due, or leave a failed request out.
"""

from modelyard.loadtest.address import Address, parse_address
from modelyard.loadtest.find import find_rate
from modelyard.loadtest.measure import measure

__all__ = ["Address", "find_rate", "measure", "parse_address"]
