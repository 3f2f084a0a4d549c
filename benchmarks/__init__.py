"""What a penalty, and watching it, costs: `python -m benchmarks`."""
