"""On which terms a release may be asked, beside those of the service that it is deployed to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from modelyard.bundle.format import SPEC_IN_EFFECT
from modelyard.errors import BundleFormat
from modelyard.serve.keep.terms import Terms, ignored, refused, terms_of
from modelyard.serve.messages import RunInfo

RUN = RunInfo(service="income", pid=1, start_ticks=1, host="127.0.0.1", port=8080, started="now")
CERT = "/etc/ssl/service.pem"

terms = st.builds(Terms, keys=st.booleans(), tls_cert=st.sampled_from([None, CERT, "/etc/ssl/other.pem"]))


@given(terms=terms, needs_key=st.booleans(), tls=st.booleans())
def test_a_release_is_refused_exactly_where_the_service_protects_it_less_and_told_of_where_it_protects_more(
    terms: Terms, needs_key: bool, tls: bool
) -> None:
    run = replace(RUN, needs_key=needs_key, tls=tls, tls_cert=CERT if tls else None)
    less = (terms.keys and not needs_key) or (terms.tls_cert is not None and not tls)
    assert (refused("income@2", terms, run) is not None) == less
    same = (terms.keys, terms.tls_cert) == (needs_key, run.tls_cert)
    assert (refused("income@2", terms, run) is None and ignored("income@2", terms, run) == ()) == same


def test_what_is_refused_and_what_is_ignored_is_said_with_what_to_do() -> None:
    why = refused("income@2", Terms(keys=True, tls_cert=CERT), RUN)
    assert why is not None and "`serving.keys: true`, while the service asks nobody for a key" in why
    assert "without TLS" in why and "modelyard stop income, then modelyard serve income@2" in why
    running = replace(RUN, needs_key=True, tls=True, tls_cert=CERT)
    keys, cert = ignored("income@2", Terms(tls_cert="/other.pem"), running)
    assert "goes on asking for keys" in keys and "modelyard serve income@2" in keys
    assert f"goes on with the certificate `{CERT}`; `income@2` names `/other.pem`" in cert
    (bare,) = ignored("income@2", Terms(keys=True), running)
    assert "goes on answering with TLS" in bare


def test_the_terms_are_read_from_the_sealed_spec_whatever_else_it_has(tmp_path: Path) -> None:
    path = tmp_path / SPEC_IN_EFFECT
    path.write_text(json.dumps({"name": "income", "serving": {"port": 80, "keys": True, "tls_cert": CERT}}))
    assert terms_of(tmp_path) == Terms(keys=True, tls_cert=CERT)
    path.write_text("{}")
    assert terms_of(tmp_path) == Terms()
    path.write_text(json.dumps({"serving": {"keys": "perhaps"}}))
    with pytest.raises(BundleFormat, match=r"spec\.json` cannot be read: .*Build the release again"):
        terms_of(tmp_path)
