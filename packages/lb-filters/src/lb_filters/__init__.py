"""Edge features for lb: redirects, rewrites, header edits, authentication, compression."""
