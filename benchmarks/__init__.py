"""The benchmark: `./just bench` (docs/benchmark.md)."""
