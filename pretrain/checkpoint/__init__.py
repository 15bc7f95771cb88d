"""The layout-free checkpoint: save, verify, load in any parallel layout, read without ranks."""
