"""Pytest runs itself in one of these tests."""

pytest_plugins = ["pytester"]
