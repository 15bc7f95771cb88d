"""What a machine with a GPU shows of this repository: `python -m benchmarks.gpu_check`, or `make gpu-check`."""
