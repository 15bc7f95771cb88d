"""Conversations for instruction tuning: read, rendered, encoded with which tokens are answers, saved with a model."""
