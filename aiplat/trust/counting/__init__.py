"""From rows to counts, and from counts to every rate of every group."""
