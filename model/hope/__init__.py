"""HOPE (Behrouz et al. 2025, "Nested Learning"): self-modifying Titans and a continuum memory system."""
