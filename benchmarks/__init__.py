"""Measurements against bare PyTorch, raw disk and a bare memory map: ratios, not seconds."""
