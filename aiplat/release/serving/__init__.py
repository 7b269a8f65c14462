"""How a model answers over the network: plans, prepared models, protocols, workers."""
