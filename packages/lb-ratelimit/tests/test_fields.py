"""What clients are told."""

from __future__ import annotations

from lb_ratelimit.fields import Policy, policy_fields, standing_fields

MINUTE = Policy("default", 1000, 60.0)
FLYING = Policy("flying", 20, None)


def test_policies_in_the_form_of_the_draft() -> None:
    assert policy_fields("draft", [MINUTE]) == (("RateLimit-Policy", '"default";q=1000;w=60'),)
    assert policy_fields("draft", [MINUTE, Policy("b", 5, 0.5), FLYING]) == (
        ("RateLimit-Policy", '"default";q=1000;w=60, "b";q=5;w=1, "flying";q=20;qu="concurrent-requests"'),
    )
    assert policy_fields("draft", []) == policy_fields("legacy", [MINUTE]) == policy_fields("off", [MINUTE]) == ()


def test_the_standing_in_each_form() -> None:
    assert standing_fields("draft", MINUTE, 7, 11.2) == (("RateLimit", '"default";r=7;t=12'),)
    assert standing_fields("draft", FLYING, 3, None) == (("RateLimit", '"flying";r=3'),)
    assert standing_fields("legacy", MINUTE, 7, 11.2) == (
        ("X-RateLimit-Limit", "1000"),
        ("X-RateLimit-Remaining", "7"),
        ("X-RateLimit-Reset", "12"),
    )
    assert standing_fields("legacy", FLYING, 3, None)[1:] == (("X-RateLimit-Remaining", "3"),)
    assert standing_fields("off", MINUTE, 7, 1.0) == ()


def test_no_more_is_left_than_the_policy_says() -> None:
    """A bucket may hold more than comes in a window."""
    assert standing_fields("draft", MINUTE, 5000, 0.0) == (("RateLimit", '"default";r=1000;t=0'),)
