"""The scripts of token buckets and of requests under way.

A limit's buckets are two hashes, of the present generation and of the one before. A generation is longer than a bucket
takes to fill, so what is in an older one means nothing any more, and its hash expires.

    8 bytes of a keyed hash of the key   ->   the arrival time, 8 bytes
    "#" and a node's number              ->   number of what it said last

Requests under way are one hash:

    8 bytes of a keyed hash of the key   ->   for each node its number, how many it has, and until when that counts
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lb_redis.policy_bucket import Additions
    from lb_redis.policy_gauge import Standing

BUCKETS = """
local present, before = KEYS[1], KEYS[2]
local node, number, expiry = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local since, n, fields, adds, least = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8]
local call, unpack, pack, sub = redis.call, struct.unpack, struct.pack, string.sub

local last = tonumber(call('HGET', present, node) or call('HGET', before, node) or 0)
if last == 0 and number > 1 then return {0} end
local again = last == number

local times = {}
for i = 1, n do
  local at = i * 8 - 7
  local field = sub(fields, at, at + 7)
  local stored = call('HGET', present, field) or call('HGET', before, field)
  local time = stored and unpack('<d', stored) or 0
  if not again then
    time = math.max(math.max(time, since) + unpack('<d', adds, at), unpack('<d', least, at))
    call('HSET', present, field, pack('<d', time))
  end
  times[i] = pack('<d', time)
end
if not again then
  call('HSET', present, node, number)
  call('PEXPIRE', present, expiry)
end
return {1, table.concat(times)}
"""

GAUGES = """
local counts, node = KEYS[1], ARGV[1]
local lifetime, n, fields, mine = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local call, unpack, pack, sub = redis.call, struct.unpack, struct.pack, string.sub
local time = call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000

local others = {}
for i = 1, n do
  local field = sub(fields, i * 8 - 7, i * 8)
  local stored = call('HGET', counts, field) or ''
  local own, sum, kept = unpack('<i4', mine, i * 4 - 3), 0, {}
  for at = 1, #stored, 20 do
    local count, till = unpack('<i4d', stored, at + 8)
    if till > now and sub(stored, at, at + 7) ~= node then
      sum = sum + count
      kept[#kept + 1] = sub(stored, at, at + 19)
    end
  end
  if own > 0 then kept[#kept + 1] = node .. pack('<i4d', own, now + lifetime) end
  if #kept > 0 then call('HSET', counts, field, table.concat(kept))
  elseif stored ~= '' then call('HDEL', counts, field) end
  others[i] = pack('<i4', sum)
end
call('PEXPIRE', counts, math.ceil(lifetime * 4000))
return table.concat(others)
"""


def bucket_arguments(said: Additions, node: str, expiry: float, fields: Sequence[bytes]) -> list[str | bytes | int]:
    """What the script of token buckets is called with, after its keys."""
    count = len(said.keys)
    columns = struct.Struct(f"<{count}d").pack
    since = f"{said.since:.6f}"
    return [
        f"#{node}",
        said.number,
        int(1000 * expiry),
        since,
        count,
        b"".join(fields),
        columns(*said.adds),
        columns(*said.least),
    ]


def bucket_answer(reply: Sequence[int | bytes], count: int) -> list[float] | None:
    """The arrival times that it has returned; None where it does not know the node any more."""
    if reply[0] != 1 or not isinstance(reply[1], bytes):
        return None
    return list(struct.unpack(f"<{count}d", reply[1]))


def gauge_arguments(said: Standing, node: bytes, lifetime: float, fields: Sequence[bytes]) -> list[bytes | int | float]:
    """What the script of requests under way is called with; `node` is 8 bytes."""
    count = len(said.keys)
    return [node, lifetime, count, b"".join(fields), struct.pack(f"<{count}i", *said.counts)]


def gauge_answer(reply: bytes, count: int) -> list[int]:
    """How many the other nodes have of each key."""
    return list(struct.unpack(f"<{count}i", reply))
