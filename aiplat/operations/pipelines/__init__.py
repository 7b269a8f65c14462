"""Pipelines: files, plans, the engine that drives them, and where every run stands."""
