"""`lb explain`: where a request would go, by the file or as things are, and why one went where it did."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from lb_core.cli.app import DONE, FAILED, lb
from lb_core.cli.commands import CONTROL, ask_running
from lb_core.cli.looking import json_option
from lb_core.cli.source import config_option, open_balancer
from lb_core.columns import columns
from lb_core.errors import LbError
from lb_core.headers import check_field

if TYPE_CHECKING:
    from lb_core.balancer import LoadBalancer

Data = dict[str, Any]

UNKNOWN = """\
nothing is recorded of request {id!r}
The last {kept} decisions are kept, which go back {back}. Of ordinary requests a route records one a millisecond at
most; one that brings an X-Request-Id of its own is always recorded:
  curl -H 'X-Request-Id: look-at-me' URL
  lb explain --why look-at-me"""


def _address(_ctx: click.Context, _option: click.Parameter, text: str) -> str:
    from ipaddress import ip_address

    try:
        return str(ip_address(text))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@lb.command()
@click.argument("method", required=False)
@click.argument("url", required=False)
@config_option
@click.option(
    "--client", metavar="IP", default="127.0.0.1", callback=_address, show_default=True, help="Address of the client."
)
@click.option(
    "-H", "--header", "headers", metavar="'NAME: VALUE'", multiple=True, help="A request header; may be repeated."
)
@click.option("--live", is_flag=True, help="Ask the running balancer: states and counts are the real ones.")
@click.option("--why", metavar="REQUEST_ID", help="Say why a request went where it did; asks the running balancer.")
@click.option("--control", metavar="PATH", help=CONTROL)
@json_option
def explain(
    method: str | None,
    url: str | None,
    path: str | None,
    client: str,
    headers: tuple[str, ...],
    live: bool,
    why: str | None,
    control: str | None,
    as_json: bool,
) -> int:
    """Say where a request would go, and why.

    Nothing is sent. Without --live the configuration file is asked, and nothing is checked: backends with a health
    check are taken for good ones. With --why it tells of a request that has been served.

    \b
    lb explain GET https://example.com/v2/users --client 192.0.2.7
    lb explain GET https://example.com/v2/users --live
    lb explain --why 5f0c9a7be1d24c3f8a6b7c8d9e0f1a2b
    """
    if why is not None:
        if method or url or live:
            raise click.UsageError("--why tells of one request: give its X-Request-Id alone")
        return _told_why(why, control, as_json, path)
    if not method or not url:
        raise click.UsageError(f"Missing argument '{'URL' if method else 'METHOD'}': what is asked about?")
    fields = dict(_header(header) for header in headers)
    request = {"method": method.upper(), "url": url, "client": client, "headers": fields}
    if live:
        found: Data = ask_running(control, {"ask": "explain", **request}, path=path)
    else:
        balancer = open_balancer(path)
        _assume_health(balancer)
        try:
            found = balancer.explain(method.upper(), url, client=client, headers=fields).as_data()
        except LbError as error:
            raise click.UsageError(str(error)) from error
    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(_explained(found)))
    return DONE


def _assume_health(balancer: LoadBalancer) -> None:
    """Take backends that wait for a first check for good ones: nothing is checked here, and the choice is asked for."""
    for pool in balancer.pools.values():
        pool.notify = lambda _event: None  # nothing has happened
        for backend in pool.backends:
            if backend.health == "starting":
                pool.set_health(backend, "up", "assumed, nothing is checked here")


def _explained(found: Data) -> list[str]:
    if not found["route"]:
        return [f"no route: {found['why']}", f"  {found['outcome']}", "  `lb routes` lists what there is"]
    rows = [
        [
            each["name"],
            each["address"],
            f"{each['state']}: {each['reason']}" if each["reason"] else each["state"],
            str(each["weight"]),
            f"{each['in_flight']} of {each['limit']}" if each["limit"] else str(each["in_flight"]),
            "yes" if each["candidate"] else "no",
        ]
        for each in found["backends"]
    ]
    return [
        f"route     {found['route']}",
        f"because   {found['why']}",
        f"plugins   {', then '.join(found['plugins'])}",
        f"strategy  {found['strategy']}",
        *(f"state     {name}: {line}" for name, lines in found["states"] for line in lines),
        *columns(["BACKEND", "ADDRESS", "STATE", "WEIGHT", "IN FLIGHT", "CANDIDATE"], rows),
        f"choice    {found['choice'] or '-'}: {found['outcome']}",
    ]


def _told_why(request_id: str, control: str | None, as_json: bool, path: str | None) -> int:
    answer: Data = ask_running(control, {"ask": "decision", "request_id": request_id}, path=path)
    decisions: list[Data] = answer["decisions"]
    if as_json:
        click.echo(json.dumps(answer, indent=2))
    elif decisions:
        click.echo("\n".join(_account(decisions)))
    else:
        back = f"{answer['seconds']:.0f} s" if answer["seconds"] < 120 else f"{answer['seconds'] / 60:.0f} minutes"
        raise LbError(UNKNOWN.format(id=request_id, kept=answer["kept"], back=back))
    return DONE if decisions else FAILED


def _account(decisions: list[Data]) -> list[str]:
    """All there is about an id: the attempts of a request in order, request by request where several had it."""
    lines: list[str] = []
    before: Data | None = None
    for index, each in enumerate(decisions):
        if before is None or each["begun"] - before["begun"] > 1e-6 or each["attempt"] < before["attempt"]:
            rest = [other for other in decisions[index:] if abs(other["begun"] - each["begun"]) <= 1e-6]
            lines += [*([""] if lines else []), *_request(each, rest[-1])]
        lines += ["", *_decision(each)]
        before = each
    return lines


def _request(first: Data, last: Data) -> list[str]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(first["begun"]))
    flags = f" ({', '.join(last['flags'])})" if last["flags"] else ""
    outcome = f"{last['status'] or 'no answer'} after {last['duration'] * 1000:.1f} ms{flags}"
    return [
        f"request   {first['method']} {first['host']}{first['target']}",
        f"id        {first['request_id']}",
        f"from      {first['client'] or 'a unix socket'}, {when}.{int(first['begun'] % 1 * 1000):03d}",
        f"route     {first['route']}",
        f"outcome   {outcome if last['duration'] else 'still under way'}",
    ]


def _decision(each: Data) -> list[str]:
    later = (each["time"] - each["begun"]) * 1000
    title = f"attempt {each['attempt']}" if each["attempt"] else "no attempt"
    by = f", chosen by {each['who']}" if each["who"] else ""
    lines = [
        f"{title}, after {max(later, 0):.1f} ms, in pool {each['pool']}",
        f"  choice   {each['choice']}{by}" if each["choice"] else f"  choice   nobody ({each['who']})",
    ]
    lines += [f"  because  {each['why']}"] if each["why"] else []
    lines += [f"  failed   {each['error']}"] if each["error"] else []
    return [*lines, *_candidates(each)]


def _candidates(each: Data) -> list[str]:
    """Whom there was to choose from; a column that is empty for all of them is left out."""
    wanted = {"name": "CANDIDATE", "in_flight": "IN FLIGHT", "score": "SCORE", "state": "STATE"}
    there = each["candidates"]
    shown = [key for key in wanted if any(one[key] not in (None, "") for one in there)]
    rows = [[_cell(one[key]) for key in shown] for one in there]
    more = [f"  and {each['other_candidates']} others"] if each["other_candidates"] else []
    return [*columns([wanted[key] for key in shown], rows), *more] if there else []


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"{text!r} is no header: write 'Name: value'", param_hint="'-H'")
    try:
        check_field(name.strip(), value.strip())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'-H'") from error
    return name.strip(), value.strip()
