"""What gpu_check.py is made of: parts with a limit each, their report, and the targets."""
