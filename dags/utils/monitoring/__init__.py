"""Health checks, notifications about runs, retention."""
