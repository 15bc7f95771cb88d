"""Typed configuration: recipes in YAML, overrides on the command line, errors that name what is wrong."""
