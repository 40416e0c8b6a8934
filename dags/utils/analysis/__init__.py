"""Reasons for flagged days, network events, airport locations, and days excluded from fitting."""
