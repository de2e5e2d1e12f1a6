"""Connections are counted by where they come from."""

from __future__ import annotations

from typing import Any

import pytest

from janflask.connections.crowd import Crowd

FAR = ("192.0.2.7", 40000)


def test_so_many_and_no_more_until_one_leaves() -> None:
    crowd = Crowd(2)
    places = [crowd.admit(FAR), crowd.admit(("192.0.2.7", 40001))]
    assert places == ["192.0.2.7"] * 2
    assert crowd.admit(FAR) is None
    assert crowd.admit(("192.0.2.8", 1)) is not None
    crowd.leave("192.0.2.7")
    assert crowd.admit(FAR) is not None
    assert crowd.admit(FAR) is None


def test_nothing_is_kept_of_who_left() -> None:
    crowd = Crowd(2)
    for number in range(100):
        place = crowd.admit((f"192.0.2.{number}", 1))
        assert place is not None
        crowd.leave(place)
    assert not crowd._counts


def test_a_network_of_ipv6_counts_as_one() -> None:
    crowd = Crowd(1)
    assert crowd.admit(("2001:db8:1:2::1", 1, 0, 0)) == "2001:db8:1:2::/64"
    assert crowd.admit(("2001:db8:1:2:ffff::9", 1, 0, 0)) is None
    assert crowd.admit(("2001:db8:1:3::1", 1, 0, 0)) is not None
    assert crowd.admit(("fe80::1%eth0", 1, 0, 2)) == "fe80::/64"


def test_an_address_is_the_same_in_both_families() -> None:
    crowd = Crowd(1)
    assert crowd.admit(FAR) == crowd._counts.most_common()[0][0]
    assert crowd.admit(("::ffff:192.0.2.7", 1, 0, 0)) is None


@pytest.mark.parametrize("client", ["", b"", None, ("127.0.0.1", 1), ("::1", 1, 0, 0), ("127.9.9.9", 1)])
def test_this_machine_is_not_counted(client: Any) -> None:
    crowd = Crowd(1)
    assert [crowd.admit(client) for _ in range(3)] == [""] * 3


def test_without_a_limit_nobody_is_counted() -> None:
    crowd = Crowd(0)
    assert [crowd.admit(FAR) for _ in range(300)] == [""] * 300


def test_a_proxy_speaks_for_many() -> None:
    crowd = Crowd(1, ("10.0.0.0/8", "2001:db8::1"))
    for client in (("10.1.2.3", 1), ("::ffff:10.1.2.3", 1, 0, 0), ("2001:db8::1", 1, 0, 0)):
        assert [crowd.admit(client) for _ in range(3)] == ["", "", ""]
    assert crowd.admit(FAR) == "192.0.2.7"
    assert crowd.admit(FAR) is None
    anybody = Crowd(1, ("*",))
    assert [anybody.admit(FAR) for _ in range(3)] == ["", "", ""]
