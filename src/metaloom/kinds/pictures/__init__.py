"""Pictures: image files of any size, packed as squares of uint8 pixels."""
