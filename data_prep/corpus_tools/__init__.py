"""What is done with a finished corpus: verify, inspect, count, mix, merge."""
