"""Traffic splitting for lb: canary, blue-green, weighted split, mirror."""
