"""What production does to a model: what comes in, what it answers, how right it was, and who is told."""
