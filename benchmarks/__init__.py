"""What the README's figures come from; `make benchmark` runs all of it and writes `benchmarks/results.md`."""
