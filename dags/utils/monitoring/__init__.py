"""Health, messages about runs and their delivery, retention."""
