"""The report of a detector: one page that shows what it finds, what it misses, and at which threshold."""
