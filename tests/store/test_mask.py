"""Secrets are masked before anything is written."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.codec import decode, encode
from modelyard.store.mask import mask, plain

SECRET = "hunter2-Very_Secret.Value"


@pytest.mark.parametrize(
    "text",
    [
        "push --key={}",
        "push --api-key {}",
        "push --api_key '{}'",
        'push --token="{}"',
        "push --password {} --json",
        "OPENAI_API_KEY={} modelyard run",
        "AWS_SECRET_ACCESS_KEY={}",
        "password={}",
        'password="{}',
        '{{\\"password\\": \\"{}\\"}}',
        "PASSWORD: {}",
        '{{"password": "{}"}}',
        "{{'client_secret': '{}'}}",
        "postgresql://ada:{}@db.example/test",
        "https://{}@github.com/x/y",
        "curl -H 'Authorization: Bearer {}'",
        "Authorization: Basic {}",
        "https://example.com/?access_token={}&x=1",
        "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_gone(text: str) -> None:
    masked = mask(text.format(SECRET))
    assert SECRET not in masked
    assert "hunter2" not in masked
    assert "***" in masked


@pytest.mark.parametrize(
    "token",
    ["sk-" + "a1" * 12, "ghp_" + "Ab1" * 12, "hf_" + "aB" * 15, "AKIA" + "ABCD" * 4, "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0"],
)
def test_a_token_of_a_known_shape_is_gone_wherever_it_stands(token: str) -> None:
    assert token not in mask(f"failed at ({token}), sorry")


@pytest.mark.parametrize(
    "text",
    [
        "modelyard deploy income@2 --canary",
        "modelyard run --spec system.yaml --trials 20",
        "column `monkey` has 3 rows",
        "http://127.0.0.1:8080/v2/health/ready",
        "modelyard serve income --port 8080",
        "the key of the table is `id`",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize("piece", ["x", "-", "key=", "://", 'token="', "eyJ-", "--a-", "Bearer ", "\\"])
def test_no_text_takes_long(piece: str) -> None:
    began = time.perf_counter()
    mask(piece * (100_000 // len(piece)))
    assert time.perf_counter() - began < 1.0


def test_a_long_text_is_cut_with_a_note() -> None:
    assert mask("x" * 10_005).endswith("x … and 5 more characters")


def test_maps_are_masked_by_name_and_by_value() -> None:
    seen = plain({"password": "a", "pwd": 1234, "nested": [{"api_key": ["b"]}, "--token=c"], "tokens": 12, "rows": 3})
    assert seen == {
        "password": "***",
        "pwd": "***",
        "nested": [{"api_key": "***"}, "--token=***"],
        "tokens": 12,
        "rows": 3,
    }


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(JSON_LIKE)
def test_any_value_becomes_json_whose_canonical_form_is_stable(value: object) -> None:
    data = encode(plain({"value": value}))
    assert encode(decode(data, dict)) == data
    json.loads(data)


def test_an_argument_that_is_no_text_can_be_written() -> None:
    assert encode(mask("modelyard run \udcff.csv"))
