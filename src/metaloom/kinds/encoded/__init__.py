"""Examples that a frozen encoder, pre-trained elsewhere, has turned into rows of numbers."""
