"""Kernels: from an order to an executed notebook, each in a clean process of its own."""
