"""The tables of `benchmark.py --gpu`, one a file, and how their rows are measured."""
