"""Two bundles answer the same inputs of real use; labels that come later say which of them is better."""
