"""Rate limits for lb: sliding window, token bucket, fixed window, concurrency."""
