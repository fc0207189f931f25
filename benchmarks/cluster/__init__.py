"""A model of many nodes that share limits and facts through Redis. docs/scale.md tells what it says."""
