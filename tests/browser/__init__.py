"""Tests that look at pages as a person would, in headless Chromium."""
