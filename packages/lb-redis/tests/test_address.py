"""URLs of Redis, and that no text shows a password."""

from __future__ import annotations

import pickle

import pytest

from lb_redis.address import Address, masked, parse


def refusal(url: object) -> str:
    """What is said about a URL that is refused."""
    with pytest.raises(ValueError, match=r".+") as refused:
        parse(url)
    return str(refused.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://10.0.0.5", Address("single", (("10.0.0.5", 6379),))),
        ("redis://10.0.0.5:6380/3", Address("single", (("10.0.0.5", 6380),), database=3)),
        ("rediss://cache.example", Address("single", (("cache.example", 6379),), tls=True)),
        ("redis://[::1]:7000/", Address("single", (("::1", 7000),))),
        ("redis+sentinel://a,b:26380/main", Address("sentinel", (("a", 26379), ("b", 26380)), service="main")),
        ("redis+sentinel://a/main/2", Address("sentinel", (("a", 26379),), service="main", database=2)),
        ("rediss+cluster://a:7000,b:7001", Address("cluster", (("a", 7000), ("b", 7001)), tls=True)),
        ("redis+cluster://a/0", Address("cluster", (("a", 6379),))),
    ],
)
def test_a_url_is_read(url: str, expected: Address) -> None:
    assert parse(url) == expected


def test_a_user_and_a_password_are_decoded() -> None:
    found = parse("redis://lb:p%40ss%2Fw%3Aord@10.0.0.5")
    assert (found.username, found.password.get_secret_value()) == ("lb", "p@ss/w:ord")
    assert parse("redis://:only@x").password.get_secret_value() == "only"


def test_nothing_shows_the_password() -> None:
    found = parse("redis://lb:geheim@10.0.0.5/1")
    assert str(found) == "redis://10.0.0.5:6379/1"
    assert "geheim" not in repr(found) + str(found)
    assert masked("redis://lb:geheim@h:x/0") == "redis://lb:***@h:x/0"
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("10.0.0.5:6379", "not the URL of a Redis: write one like redis://10.0.0.5:6379"),
        ("redis://:a/b@h", '"redis://:***@h": write %2F for a "/" in the user or the password'),
        ("http://10.0.0.5", "not the URL of a Redis"),
        (7, "not the URL of a Redis"),
        ("redis://", "names no host"),
        ("redis://u:?@h:x", '"h:x" is not HOST:PORT'),
        ("redis://a:99999", "is not HOST:PORT"),
        ("redis://a,b", "names several hosts"),
        ("redis://a/x", '"x" is not the number of a database'),
        ("redis://a?db=1", "holds options"),
        ("redis+ring://a", '"redis+ring" is not known'),
        ("redis+sentinel://a", "names no master"),
        ("redis+cluster://a/1", "has one database only"),
    ],
)
def test_a_wrong_one_is_told_with_the_next_step(url: object, message: str) -> None:
    assert message in refusal(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:geheim@a:b:c",
        "redis://u:geheim@a/x",
        "redis://u:geheim@h?x=1",
        "redis://h?password=geheim",
        "redis://geheim@a:b:c",
        "redis://u:a/geheim@h",
        "redis:/u:geheim@h",
        "x://u:geheim@h",
        "geheim",
    ],
)
def test_an_error_does_not_show_the_password(url: str) -> None:
    assert "geheim" not in refusal(url)
