"""Circuit breaker for lb: per backend or route, with limited probes."""
