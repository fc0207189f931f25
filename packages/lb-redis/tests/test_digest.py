"""Whether two nodes know the same."""

from __future__ import annotations

from lb_redis.digest import bucket_of, differing, digests, within


def test_the_same_facts_in_another_order_are_the_same() -> None:
    facts = [(f"t{number % 5}", {"backend": number}) for number in range(20)]
    assert digests(facts) == digests(facts[::-1])


def test_times_run_on_and_count_for_nothing() -> None:
    assert digests([("t", {"b": 1, "seconds": 3.5})]) == digests([("t", {"seconds": 2.25, "b": 1})])
    assert digests([("t", {"b": 1, "seconds": 3})]) != digests([("t", {"b": 1, "seconds": 2})])


def test_only_the_buckets_that_differ_are_told() -> None:
    facts = [(f"t{number}", number) for number in range(200)]
    changed = [*facts[:-1], ("t199", "other")]
    buckets = differing(digests(facts), digests(changed))
    assert buckets == {bucket_of("t199")}
    assert ("t199", "other") in within(changed, buckets)
    assert len(within(changed, buckets)) < 20
    assert differing({}, digests(facts)) == set(digests(facts))
    assert differing(digests(facts), digests(facts)) == set()
