"""The beat: what a node says and hears once a second, in one round trip.

One script tells that this node is alive and under which name, counts the nodes, takes or renews the lease where that is
asked for, and tells the version of the edits. Times are Redis's own, so the clocks of the nodes may differ. An emptied
Redis gets the secret of the counts back at once: with two of them each node would count for itself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from lb_redis.failures import LostRedis
from lb_redis.lease import Holder, parse_holder
from lb_redis.link import Script
from lb_redis.roster import FORGET_AFTER, GONE_AFTER, Told, listen

if TYPE_CHECKING:
    from lb_redis.keys import Keys
    from lb_redis.link import Link

# A name belongs to the run that wrote it, until that has been silent for `gone` seconds. Who finds the name it wants to
# be taken appends a number, and takes the name when it is free again. In an upgrade the new run takes the name of the
# old one, which is not listed any more: what stands at the name mentions it.
BEAT = Script("""
local alive, nodes, leader, fence, edits, secret = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local wanted, before, boot, info = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local gone, forget = tonumber(ARGV[5]), tonumber(ARGV[6])
local lease, highest, all = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9]
local own_secret, predecessor = ARGV[10], ARGV[11]
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000

local function boot_of(name)
  local found = redis.call('HGET', nodes, name)
  return found and string.match(found, '^(%x+) ') or false
end
local function free(name)
  local owner = boot_of(name)
  if not owner or owner == boot or owner == predecessor then return true end
  local seen = redis.call('ZSCORE', alive, name)
  return not seen or tonumber(seen) < now - gone
end
local known = boot_of(before) == boot
local succeeded = false
if not known and tonumber(redis.call('ZSCORE', alive, before) or 0) >= now - gone then
  local told = redis.call('HGET', nodes, before)
  succeeded = told and string.find(told, '"after":"' .. boot .. '"', 1, true)
end
local name, number = wanted, 1
while number < 1000 and not free(name) do
  number = number + 1
  name = wanted .. '-' .. number
end
if before ~= name and known then
  redis.call('ZREM', alive, before)
  redis.call('HDEL', nodes, before)
end
if succeeded then
  name = before
else
  redis.call('ZADD', alive, now, name)
  redis.call('HSET', nodes, name, boot .. ' ' .. info)
end
local old = redis.call('ZRANGEBYSCORE', alive, '-inf', now - forget, 'LIMIT', 0, 100)
for _, each in ipairs(old) do
  redis.call('ZREM', alive, each)
  redis.call('HDEL', nodes, each)
end

if own_secret ~= '' then redis.call('SET', secret, own_secret, 'NX') end

local holder = redis.call('GET', leader)
if lease > 0 then
  if not holder then
    local token = redis.call('INCR', fence)
    if token <= highest then
      token = highest + 1
      redis.call('SET', fence, token)
    end
    holder = boot .. ' ' .. token .. ' ' .. name
    redis.call('SET', leader, holder, 'PX', lease)
  elseif string.sub(holder, 1, #boot) == boot then
    redis.call('PEXPIRE', leader, lease)
  end
end

local listed = false
if all == '1' then
  listed = {}
  local scores = redis.call('ZRANGE', alive, 0, -1, 'WITHSCORES')
  for at = 1, #scores, 2 do
    local each = redis.call('HGET', nodes, scores[at])
    if each then
      listed[#listed + 1] = scores[at]
      listed[#listed + 1] = each
      listed[#listed + 1] = string.format('%.3f', now - tonumber(scores[at + 1]))
    end
  end
end
local count = redis.call('ZCOUNT', alive, now - gone, '+inf')
local version = redis.call('HGET', edits, 'version')
local shared = redis.call('GET', secret)
return {string.format('%.6f', now), name, count, holder or '', version or '0', listed, shared or '',
  known and 1 or 0, succeeded and 1 or 0}
""")

LEAVE = Script("""
local told = redis.call('HGET', KEYS[2], ARGV[1])
if told and string.sub(told, 1, #ARGV[2]) == ARGV[2] then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
end
local holder = redis.call('GET', KEYS[3])
if holder and string.sub(holder, 1, #ARGV[2]) == ARGV[2] then redis.call('DEL', KEYS[3]) end
return 1
""")


class Beat(NamedTuple):
    """What a beat is answered. `nodes` are those alive, `told` all that are known where that was asked for.

    `secret` is that of the counts, empty where there is none; `known` is whether Redis still knew this node, and
    `succeeded` whether the next process of an upgrade has its name.
    `time` is Redis's clock; `offset` is how far it is ahead of this machine's, at most `doubt` wrong.
    """

    time: float
    name: str
    nodes: int
    holder: Holder | None
    edits: int
    told: list[Told] | None
    offset: float
    doubt: float
    secret: bytes
    known: bool
    succeeded: bool


async def beat(
    link: Link,
    wanted: str,
    before: str,
    info: str,
    *,
    lease: float,
    highest: int,
    everybody: bool,
    secret: bytes = b"",
    predecessor: str = "",
) -> Beat:
    """Say and hear what there is; `lease` seconds are asked for, 0.0 for none. Raises LostRedis.

    `secret` is that of the counts, as far as this node knows it; `predecessor` the run whose name it takes over.
    """
    keys = link.keys
    begin = time.time()
    answer = await link.run(
        BEAT,
        (keys.alive, keys.nodes, keys.leader, keys.fence, keys.edits, keys.secret),
        (
            *(wanted, before, link.boot, info, GONE_AFTER, FORGET_AFTER),
            *(int(lease * 1000), highest, int(everybody), secret, predecessor),
        ),
    )
    end = time.time()
    try:
        now, name, count, holder, version, listed, shared, known, succeeded = answer
        moment = float(now)
        told = None if listed is None else _told(listed)
        return Beat(
            moment,
            name.decode(),
            max(int(count), 1),
            parse_holder(holder),
            int(version),
            told,
            moment - (begin + end) / 2,
            (end - begin) / 2,
            bytes(shared),
            bool(known),
            bool(succeeded),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise link.failed(LostRedis(f"its answer to the beat makes no sense: {error}")) from error


async def leave(link: Link, name: str) -> None:
    """Say that this node goes, and give the lease back. Raises LostRedis."""
    keys: Keys = link.keys
    await link.run(LEAVE, (keys.alive, keys.nodes, keys.leader), (name, link.boot))


def _told(listed: list[bytes]) -> list[Told]:
    triples = zip(listed[::3], listed[1::3], listed[2::3], strict=True)
    found = (listen(_plain(name), _plain(text), float(seen)) for name, text, seen in triples)
    return [each for each in found if each is not None]


def _plain(data: bytes) -> str:
    return data.decode(errors="replace")
