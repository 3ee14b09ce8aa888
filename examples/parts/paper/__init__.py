"""The parts of experiments.py: the tables of the paper, their models, runs, costs and report."""
