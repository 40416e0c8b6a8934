"""What detectors share; no detector lives here, and `NAMES` skips this folder."""
