"""Speed benchmarks behind `recon bench`, on generated scenes that are the same everywhere."""
