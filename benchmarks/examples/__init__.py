"""Short scripts, one a job: `python -m benchmarks.examples.NAME [--quick]`."""
