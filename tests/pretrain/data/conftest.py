"""Property tests that a busy machine cannot fail: examples have no deadline."""

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None, max_examples=40)
settings.load_profile("no-deadline")
