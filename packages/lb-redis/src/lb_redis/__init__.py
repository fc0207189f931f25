"""Several lb nodes as one through Redis: shared limits, facts, membership, a leader, edits."""
