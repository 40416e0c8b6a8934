"""Helpers for all detectors; `NAMES` skips this folder."""
