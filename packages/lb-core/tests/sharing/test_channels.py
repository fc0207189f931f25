"""Channels between a control process, its workers and other nodes, joined here by plain calls."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lb_core.sharing import Member, Note, Sharing

if TYPE_CHECKING:
    import pytest


class Down:
    """Seen from the control process: its workers."""

    def __init__(self) -> None:
        self.workers: dict[int, Sharing] = {}

    def tell(self, note: Note, *, but: int | None = None) -> None:
        for seat, worker in self.workers.items():
            if seat != but:
                worker.hear(note)


class Up:
    """Seen from a worker: the control process."""

    def __init__(self, control: Sharing, seat: int) -> None:
        self._control, self._seat = control, seat

    def tell(self, note: Note, *, but: int | None = None) -> None:
        self._control.hear(note, self._seat)


class Nodes:
    """The cluster: what is published reaches the control processes of the other nodes."""

    def __init__(self, own: Sharing, others: list[Sharing]) -> None:
        self._own, self._others = own, others

    def members(self) -> Sequence[Member]:
        return ()

    def publish(self, topic: str, message: Any) -> None:
        for other in self._others:
            if other is not self._own:
                other.deliver(topic, message)

    def order(self, node: str, what: str) -> None:
        raise NotImplementedError


def node(workers: int) -> tuple[Sharing, list[Sharing]]:
    control, down = Sharing(), Down()
    control.peers = down
    for seat in range(1, workers + 1):
        worker = down.workers[seat] = Sharing(seat=seat)
        worker.peers = Up(control, seat)
    return control, list(down.workers.values())


def listen(sharing: Sharing, **options: Any) -> tuple[Any, list[Any]]:
    heard: list[Any] = []
    return sharing.channel("topic", heard.append, **options), heard


def test_alone_a_message_goes_nowhere() -> None:
    channel, heard = listen(Sharing())
    channel.send(1)
    assert heard == []


def test_a_workers_message_reaches_everybody_else_once() -> None:
    control, workers = node(3)
    ends = [listen(each) for each in (control, *workers)]
    ends[1][0].send({"number": 1})
    assert [heard for _, heard in ends] == [[{"number": 1}], [], [{"number": 1}], [{"number": 1}]]


def test_a_message_of_control_reaches_the_workers() -> None:
    control, workers = node(2)
    channel, own = listen(control)
    ends = [listen(each)[1] for each in workers]
    channel.send("x")
    assert (own, ends) == ([], [["x"], ["x"]])


def test_other_nodes_hear_it_where_the_topic_is_for_nodes() -> None:
    first, second = node(1), node(2)
    controls = [first[0], second[0]]
    for each in controls:
        each.attach(Nodes(each, controls))
    ends = [listen(each) for each in (first[0], *first[1], second[0], *second[1])]
    ends[1][0].send("all")
    assert [heard for _, heard in ends] == [["all"], [], ["all"], ["all"], ["all"]]


def test_other_nodes_hear_nothing_of_a_topic_for_this_node() -> None:
    controls = [node(1)[0], Sharing()]
    for each in controls:
        each.attach(Nodes(each, controls))
    channel, _ = listen(controls[0], nodes=False)
    _, elsewhere = listen(controls[1], nodes=False)
    channel.send("own")
    assert elsewhere == []


def test_nothing_is_sent_while_a_message_is_applied() -> None:
    control, (worker,) = node(1)
    heard: list[Any] = []
    control.channel("echo", heard.append)
    echo = worker.channel("echo", lambda message: echo.send(f"again {message}"))
    control.channel("echo", heard.append).send("once")
    assert heard == []
    assert not worker.applying


def test_a_receiver_that_raises_is_logged_and_the_others_hear(caplog: pytest.LogCaptureFixture) -> None:
    control, (first, second) = node(2)
    channel, _ = listen(control)
    first.channel("topic", lambda message: message["missing"])
    _, heard = listen(second)
    with caplog.at_level(logging.ERROR, "lb.sharing"):
        channel.send({})
    assert heard == [{}]
    assert "topic" in caplog.text
    assert not first.applying


def test_a_channel_that_is_replaced_hears_nothing_and_closing_it_changes_nothing() -> None:
    control, (worker,) = node(1)
    sender, _ = listen(control)
    old, before = listen(worker)
    new, after = listen(worker)
    old.close()
    sender.send(1)
    new.close()
    sender.send(2)
    assert (before, after) == ([], [1])


def test_a_newcomer_is_told_the_present_state() -> None:
    control, _ = node(0)
    control.set_nodes(3)
    control.channel("everywhere", print, snapshot=lambda: ["a", "b"])
    control.channel("here", print, snapshot=lambda: ["c"], nodes=False)
    control.channel("silent", print)
    newcomer = Sharing(seat=1)
    ends = {topic: listen_on(newcomer, topic) for topic in ("everywhere", "here", "silent")}
    for note in control.welcome():
        newcomer.hear(note)
    assert newcomer.nodes == 3
    assert ends == {"everywhere": ["a", "b"], "here": ["c"], "silent": []}
    assert control.snapshots() == [("everywhere", "a"), ("everywhere", "b")]


def listen_on(sharing: Sharing, topic: str) -> list[Any]:
    heard: list[Any] = []
    sharing.channel(topic, heard.append)
    return heard


def test_a_snapshot_that_raises_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    sharing = Sharing()
    sharing.channel("bad", print, snapshot=lambda: [1 // 0])
    sharing.channel("good", print, snapshot=lambda: [1])
    assert sharing.snapshots() == [("good", 1)]
    assert "bad" in caplog.text


def test_what_control_knows_of_the_cluster_reaches_the_workers() -> None:
    control, workers = node(2)
    heard: list[str] = []
    workers[1].on_share.append(lambda: heard.append("share"))
    workers[1].on_offset.append(lambda: heard.append("offset"))
    control.set_share(0.25)
    control.set_share(0.25)
    control.set_offset(1.5)
    assert [(each.share, each.offset) for each in workers] == [(0.25, 1.5)] * 2
    assert heard == ["share", "offset"]


def test_who_leads_is_known_where_it_is_decided_only() -> None:
    control, (worker,) = node(1)
    assert (control.leads, worker.leads) == (True, False)
    control.set_leads(False)
    assert (control.leads, worker.leads) == (False, False)
    control.detach()
    assert (control.leads, worker.leads) == (True, False)
