"""Bronze to silver to gold: CSV reader, typed flights, duplicates, sums per airport and day, quality report."""
