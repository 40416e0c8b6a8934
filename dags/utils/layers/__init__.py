"""Bronze to silver to gold: CSV reader, typed flights, sums per airport and day, quality report."""
