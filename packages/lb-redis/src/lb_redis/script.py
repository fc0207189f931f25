"""The counts of a window in Redis, and the script that changes them.

A window of a limit is a hash that expires two windows after it ends; a key takes 76 bytes of it (Redis 7.0):

    8 bytes of a keyed hash of the key   ->   2^32 * nodes that have the key + the total of their claims
    "#" and a node's number              ->   number of its last batch, ":" and what that was granted

One call applies one batch of one node (policy.Batch), if it is the next one. The same batch again, because its answer
was lost, changes nothing and gets the same grants. A node whose last batch is unknown is told so: what it said is lost.
If the hash is older than the node (Redis came back from an older state), it is deleted: every node finds its own lost.
Numbers travel as packed binary: an answer about 500 keys is four strings.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from hashlib import blake2b

from lb_redis.policy import Answer, Batch, Key, Rules

EXPIRY = 3
"""Windows after which a hash that no node begins with any more is forgotten."""

SPARE = 60.0
"""Seconds more, for clocks that are being set right and for short windows."""

WINDOWS = """
local counts, before = KEYS[1], KEYS[2]
local node, number = ARGV[1], tonumber(ARGV[2])
local limit, weight, n = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local fields, adds, claims, asks, mine = ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local call, unpack, pack, sub = redis.call, struct.unpack, struct.pack, string.sub
local ONE = 4294967296

local last, granted = 0, ''
local stored = call('HGET', counts, node)
if stored then
  local colon = string.find(stored, ':', 1, true)
  last, granted = tonumber(sub(stored, 1, colon - 1)), sub(stored, colon + 1)
end
if last ~= number and last ~= number - 1 then
  if stored then call('UNLINK', counts) end
  return {0}
end
local again = last == number

local totals, grants, befores, sharers, any = {}, {}, {}, {}, false
for i = 1, n do
  local at = i * 4 - 3
  local field = sub(fields, i * 8 - 7, i * 8)
  local add, claim = unpack('<i4', adds, at), unpack('<i4', claims, at)
  local ask, own = unpack('<i4', asks, at), unpack('<i4', mine, at)
  local value
  if again then
    value = tonumber(call('HGET', counts, field) or 0)
  else
    if own >= 0 then add = add + ONE end
    value = tonumber(call('HINCRBY', counts, field, add))
  end
  local total = value % ONE
  local nodes = (value - total) / ONE
  local grant, previous = 0, 0
  local room = limit - total
  if weight > 0 and (own >= 0 or ask >= 0 or total > claim) then
    previous = tonumber(call('HGET', before, field) or 0) % ONE
    room = room - previous * weight
    if own > 0 then previous = math.max(0, previous - own) end
  end
  if again then
    if granted ~= '' then grant = unpack('<i4', granted, at) end
  elseif ask > 0 or (ask < 0 and (total > claim or (own >= 0 and previous > 0))) then
    if ask < 0 then ask = -ask end
    if room >= 1 then
      grant = math.min(ask, math.ceil(math.floor(room) / 2))
      call('HINCRBY', counts, field, grant)
      total, any = total + grant, true
    end
  end
  totals[i], grants[i] = pack('<I4', total), pack('<i4', grant)
  befores[i], sharers[i] = pack('<I4', previous), pack('<I4', nodes)
end
local packed = table.concat(grants)
if not again then
  call('HSET', counts, node, number .. ':' .. (any and packed or ''))
  if number == 1 then call('PEXPIRE', counts, ARGV[3]) end
end
return {1, table.concat(totals), packed, table.concat(befores), table.concat(sharers)}
"""


def digest(secret: bytes) -> Callable[[Key], bytes]:
    """From a key to the 8 bytes that stand for it in Redis: nobody who reads them finds the key, or makes its like."""
    keyed = blake2b(digest_size=8, key=secret)

    def short(key: Key) -> bytes:
        made = keyed.copy()
        made.update(key.encode() if isinstance(key, str) else b"\0" + key)
        return made.digest()

    return short


def arguments(batch: Batch, rules: Rules, node: str, fields: Sequence[bytes]) -> list[str | bytes | int | float]:
    """What the script is called with, after its keys."""
    columns = struct.Struct(f"<{len(batch.keys)}i").pack
    expiry = int(1000 * (EXPIRY * rules.window + SPARE))
    return [
        f"#{node}",
        batch.number,
        expiry,
        rules.limit,
        repr(batch.weight),
        len(batch.keys),
        b"".join(fields),
        columns(*batch.adds),
        columns(*batch.claims),
        columns(*batch.asks),
        columns(*batch.mine),
    ]


def answer(reply: Sequence[int | bytes], batch: Batch) -> Answer:
    """What the script has returned."""
    if reply[0] != 1:
        return Answer(False)
    columns = struct.Struct(f"<{len(batch.keys)}I").unpack
    totals, grants, befores, sharers = (list(columns(column)) for column in reply[1:] if isinstance(column, bytes))
    return Answer(True, totals, grants, befores, sharers)
