"""The tables of benchmark.py, one per file."""
