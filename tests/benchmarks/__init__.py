"""How fast and how small it is, side by side with others: `python -m tests.benchmarks` in a checkout. No part of the timed tests."""
