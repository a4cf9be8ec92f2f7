"""A certificate of `localhost` that signs itself, for tests alone: valid until 2126, guarding nothing."""

from __future__ import annotations

from pathlib import Path

CERT = """\
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUKaI7ni4n8r1dZxROkO2WT597gywwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTE1NTgxNFoYDzIxMjYxMDI4
MTU1ODE0WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQBiXyHdFISIGIvVEjaORUB1ZQC+vTbPteIZQ2xvR47WT+LX+IGPu4o
E0AMJrY3LGIg9MWXAeoxJlRcVG4eE6/lo28wbTAdBgNVHQ4EFgQUj3SE64MGNpBI
lIaxN6KXVzQC6iwwHwYDVR0jBBgwFoAUj3SE64MGNpBIlIaxN6KXVzQC6iwwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIhAO5BqXfPcMvVD4diDqJ1xyKz/uZUMSv7mPZopl4rIyKdAiAo
d7Xt5r5B7RQtjTh3/tI7+JxcjRVaROO/JUBo1atszQ==
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgnasEIe1Xjmd+YnVM
P0wRhH9FW2TozmzinokiAQQvg7ahRANCAAQBiXyHdFISIGIvVEjaORUB1ZQC+vTb
PteIZQ2xvR47WT+LX+IGPu4oE0AMJrY3LGIg9MWXAeoxJlRcVG4eE6/l
-----END PRIVATE KEY-----
"""
OTHER_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg55aib7KBbP8xlaUt
geC4ZjKd0twSfaRokhGusPp1S7mhRANCAARZ8a/S9eZR01F4Gigu+E4XS8rwlfGR
VM5JXb5XKI2RHCQWEOvEmfHAmCKfhuWE2hGrA27BkH9H/ecri6BfLZrs
-----END PRIVATE KEY-----
"""
LOCKED_KEY = """\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAi8qQHAwLLhiAICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEAQIEEE/je6zG8U/6qimwO+OebokEgZAB
pu59vwwKXKGy55jeLBpF4FXwV3bZmtSiOhSpRTa5+YuamUP3LHwI2ydnC/fFXJmP
/LCxQ3mICsk/vOtUtNbfIHmt0nuVUEejdKwf9mIew7z7Hi6eh4/AoHoW86q7yLCa
xzIbXS+SNbGqSmaCiYcp5Tz+imPNF/kDs0WOow1Aljdxu6fomug6QTv0QKdYWg4=
-----END ENCRYPTED PRIVATE KEY-----
"""


def write(folder: Path) -> tuple[str, str]:
    """Write certificate and key into a folder; return their paths."""
    folder.mkdir(exist_ok=True)
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_text(CERT)
    key.write_text(KEY)
    return str(cert), str(key)
