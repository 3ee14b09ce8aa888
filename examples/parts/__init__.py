"""Code that the commands in examples/ share: training, benchmarks, the paper's experiments and more."""
