"""How files come to the disk: whole or not at all, for good, and by one process at a time. For all rooms."""
