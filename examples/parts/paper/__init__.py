"""The paper's tables as experiments: what experiments.py is made of."""
