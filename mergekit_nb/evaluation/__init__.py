"""Models over data: how often a model, or a merge, is right on each task."""
