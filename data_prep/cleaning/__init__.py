"""A YAML recipe -> a datatrove pipeline over raw documents, and a report of what it dropped."""
