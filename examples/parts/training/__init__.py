"""The parts of train.py, one concept each."""
