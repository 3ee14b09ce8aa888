"""The tables of `benchmark.py --gpu`, one per file, and the measurement of their rows."""
