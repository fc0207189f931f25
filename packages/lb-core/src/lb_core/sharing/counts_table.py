"""A table of keys in shared memory: a section for each process, which that process alone writes.

    section   [used, refused, refused last, folded]   [directory: where entries are]   [bucket] [bucket] …
    bucket    [generation]   [fingerprint, word, word] x 5                 128 bytes, two lines of the cache

A key has its bucket by its fingerprint, the same in all sections, and there one of five entries. Whoever looks for a
key in another's section remembers where it was, or that it was not there, together with the bucket's generation: that
moves on whenever another key comes into the bucket, so one comparison tells whether what is remembered still holds.

A full bucket gives up the entry with the smallest words: words of windows begin with the window's number and go on with
the count, and those of arrivals are times, so that is the one of the oldest window, and of these the one with the
lowest count. A flood of new keys pushes out its own kind, not those that are near their limit.

What a word means is the affair of the class that writes it. All cells are floating-point numbers of 8 bytes, and hold
whole numbers to 53 bits exactly: CPython reads and adds them at half the price of such integers. A store of 8 bytes is
whole; of several stores the generation is the last.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from lb_core.sharing.fence import fence

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = 64
"""The section, written by the control process, of what workers had counted that are no more."""
ELSEWHERE = 65
"""Of what other nodes have counted, written by the control process."""
CAPS = 66
"""At the same places as in ELSEWHERE: how far this node may go; no fingerprints and no directory."""
SECTIONS = 67

WAYS = 5
ENTRY = 3
BUCKET = 1 + WAYS * ENTRY
HEADER = 8
PAGE = 512
"""All sizes here are in cells of 8 bytes."""

USED, REFUSED, REFUSED_LAST, FOLDED = 0, 1, 2, 3
"""Cells of the header. FOLDED: whoever had this section is gone, and what it had counted is kept."""
MEAN = 2.5
"""How many of a bucket's five entries are taken, on the average and at most, when all keys are there."""

_bucket = Struct(f"{BUCKET}d").unpack_from
_entry = Struct(f"{ENTRY}d").unpack_from


def buckets_for(most: int) -> int:
    """How many buckets, a power of two, hold so many keys."""
    return 1 << max(0, int(most / MEAN) - 1).bit_length()


class Table:
    """Sections and entries, found by a fingerprint. An entry is known by the index of its first cell, never 0."""

    __slots__ = ("_area", "_first", "_mask", "_stride", "cells")

    def __init__(self, area: memoryview, buckets: int) -> None:
        self._area = area
        self.cells: memoryview[float] = area[: self.size(buckets)].cast("d")
        self._mask = buckets - 1
        self._first = _first_bucket(buckets)
        self._stride = _stride(buckets)

    @staticmethod
    def size(buckets: int) -> int:
        """How many bytes a table takes; most of them are never touched."""
        return SECTIONS * _stride(buckets) * 8

    def section(self, number: int) -> int:
        """The first cell of a section, its header."""
        return number * self._stride

    def bucket(self, fingerprint: float) -> int:
        """The cells from a section's begin to the bucket of a fingerprint."""
        return self._first + (int(fingerprint) & self._mask) * BUCKET

    def find(self, section: int, fingerprint: float) -> int:
        """Where a key is in the section that begins at `section`, or 0."""
        return self.find_in(section + self.bucket(fingerprint), fingerprint)

    def find_in(self, bucket: int, fingerprint: float) -> int:
        """Where a key is in the bucket that begins at `bucket`, or 0."""
        ways = _bucket(self._area, bucket * 8)[1::ENTRY]
        return bucket + 1 + ENTRY * ways.index(fingerprint) if fingerprint in ways else 0

    def claim(self, section: int, fingerprint: float, *, idle_only: bool = False) -> int:
        """The place of a key in the writer's own section, which it gets if it had none; with zeros then.

        With `idle_only` only an entry whose first word is zero is given up for it; 0 where there is none.
        """
        cells, bucket = self.cells, section + self.bucket(fingerprint)
        row = _bucket(self._area, bucket * 8)
        ways = row[1::ENTRY]
        if fingerprint in ways:
            return bucket + 1 + ENTRY * ways.index(fingerprint)
        if 0.0 in ways:
            at = bucket + 1 + ENTRY * ways.index(0.0)
            used = int(cells[section + USED])
            cells[section + HEADER + used] = at - section
            cells[section + USED] = used + 1
        else:
            worth = [max(words) for words in zip(row[2::ENTRY], row[3::ENTRY], strict=True)]
            at = bucket + 1 + ENTRY * worth.index(min(worth))
            if idle_only and cells[at + 1]:
                return 0
        cells[at + 1] = cells[at + 2] = 0.0
        cells[at] = fingerprint
        fence()
        cells[bucket] += 1
        return at

    def entries(self, section: int) -> Iterator[tuple[int, float, float, float]]:
        """Of every entry of a section: where it is, its fingerprint, and its two words."""
        begin, area = section + HEADER, self._area
        for offset in self.cells[begin : begin + int(self.cells[section + USED])].tolist():
            at = section + int(offset)
            yield at, *_entry(area, at * 8)

    def clear(self, section: int) -> None:
        """Empty a section of the writer's own."""
        cells = self.cells
        for at, *_ in self.entries(section):
            cells[at] = cells[at + 1] = cells[at + 2] = 0.0
            within = at - section - self._first
            cells[at - within % BUCKET] += 1
        for number in (USED, REFUSED, REFUSED_LAST, FOLDED):
            cells[section + number] = 0.0


def _first_bucket(buckets: int) -> int:
    """Behind the header and the directory, on a page, so that no bucket is on two."""
    return _whole_pages(HEADER + buckets * WAYS)


def _stride(buckets: int) -> int:
    return _first_bucket(buckets) + _whole_pages(buckets * BUCKET)


def _whole_pages(cells: int) -> int:
    return -(-cells // PAGE) * PAGE
