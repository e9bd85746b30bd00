"""RELAY_REDIS_URL: what it may say, and that it never shows its password."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.errors import ConfigError
from relay.store.redis_url import RedisUrl, parse, safe_url

ANYTHING = st.text(string.punctuation + string.digits + " é")


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://user:secret@h/0", "redis://user:***@h/0"),
        ("redis://:secret@h", "redis://:***@h"),
        ("redis://secret@h", "redis://***@h"),
        ("unix:///run/v@lkey.sock", "unix:///run/v@lkey.sock"),
        ("unix://:secret@/run/s?db=2", "unix://:***@/run/s?db=2"),
        (
            "redis+sentinel://u:secret@a:1,b:2/s?sentinel_password=secret",
            "redis+sentinel://u:***@a:1,b:2/s?sentinel_password=***",
        ),
        ("rediss://h?ssl_ca_certs=/ca&password=secret", "rediss://h?ssl_ca_certs=/ca&password=***"),
        ("secret", "***"),
    ],
)
def test_safe_url_masks_only_what_is_secret(url: str, masked: str) -> None:
    """Passwords, possible passwords and unknown options are masked; the rest stays readable."""
    assert safe_url(url) == masked


@given(ANYTHING, ANYTHING, st.sampled_from(["redis", "rediss", "unix", "redis+sentinel", "redis+cluster", "http"]))
def test_no_password_is_ever_shown(before: str, after: str, scheme: str) -> None:
    """However wrongly a password is escaped, neither the masked URL nor an error shows it."""
    url = f"{scheme}://user:{before}Secret{after}@host:x/0"
    assert "Secret" not in safe_url(url)
    with pytest.raises(ConfigError) as caught:
        parse(url)
    assert "Secret" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", RedisUrl("single", False, {}, (("h", 6379),), "", "", 0, {})),
        (
            "rediss://u:p%40ss@[::1]:7000/3?ssl_check_hostname=no&ssl_cert_reqs=none",
            RedisUrl(
                "single",
                True,
                {"username": "u", "password": "p@ss"},
                (("::1", 7000),),
                "",
                "",
                3,
                {"ssl_check_hostname": False, "ssl_cert_reqs": "none"},
            ),
        ),
        ("unix://:p@/a%20b/s?db=2", RedisUrl("unix", False, {"password": "p"}, (), "/a b/s", "", 2, {})),
        (
            "redis+sentinel://u:p@a:1,b/main/5?sentinel_password=q",
            RedisUrl(
                "sentinel",
                False,
                {"username": "u", "password": "p"},
                (("a", 1), ("b", 26379)),
                "",
                "main",
                5,
                {"sentinel_password": "q"},
            ),
        ),
        ("rediss+cluster://a:1,b", RedisUrl("cluster", True, {}, (("a", 1), ("b", 6379)), "", "", 0, {})),
    ],
)
def test_every_topology_is_read(url: str, expected: RedisUrl) -> None:
    """Each form of the contract is understood, with defaults and escapes."""
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("localhost:6379", "scheme"),
        ("http://h", "scheme"),
        ("redis://", "no host"),
        ("redis+cluster://a,,b", "no host"),
        ("redis://h:99999", "cannot be read"),
        ("redis://h/x", "database number"),
        ("redis://h/0/1", "database number"),
        ("redis+cluster://h/1", "database 0"),
        ("redis+sentinel://h:1", "no service"),
        ("unix://", "no socket"),
        ("unix://relative/s", "no socket"),
        ("redis://h#x", "%23"),
        ("redis://h?decode_responses=true", "decode_responses"),
        ("redis://h?ssl_ca_certs=/x", "ssl_ca_certs"),
        ("rediss://h?ssl_cert_reqs=perhaps", "ssl_cert_reqs"),
        ("rediss://h?ssl_check_hostname=perhaps", "ssl_check_hostname"),
    ],
)
def test_senseless_url_is_refused_with_a_reason(url: str, complaint: str) -> None:
    """A URL that cannot work is refused before anything is dialled, and the message says what is wrong."""
    with pytest.raises(ConfigError, match=complaint):
        parse(url)
