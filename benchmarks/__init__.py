"""Programs that produce the README's figures; `make benchmark` runs speed and scale and writes `results.md`."""
