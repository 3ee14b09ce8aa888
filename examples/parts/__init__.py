"""What the commands in examples/ share: training, benchmarks, the paper's experiments, and loose parts."""
