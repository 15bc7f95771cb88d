"""What makes ids faster than a vocabulary's own library, where the ids are shown to be the same."""
