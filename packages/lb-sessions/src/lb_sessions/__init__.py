"""Sticky sessions for lb: a client stays with its backend, by cookie or header."""
