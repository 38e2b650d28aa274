"""The benchmark behind docs/benchmark.md: `make benchmark`, its pages, and the regression gate."""
