"""The two sides of a connection, and what happens between them."""
