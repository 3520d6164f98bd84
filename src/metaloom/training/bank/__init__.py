"""Training of a bank: windows of similar domains, a network for each, joined into one model."""
