"""Widgets that live in a notebook, and are still pictures in a saved one."""
