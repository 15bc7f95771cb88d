"""Imported once, before the worker processes split off: a phase's workers then begin in milliseconds."""

from __future__ import annotations

from data_prep.cleaning import executors, phases
from data_prep.cleaning.words import import_spacy

__all__ = ["executors", "phases"]

import_spacy()
