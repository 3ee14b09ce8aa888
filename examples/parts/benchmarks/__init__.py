"""The tables of benchmark.py, one a file."""
