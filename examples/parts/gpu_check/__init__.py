"""The parts of gpu_check.py: commands with time limits, their report, and the targets."""
