"""Failover for lb: a backup domain serves while no backend of a route can."""
