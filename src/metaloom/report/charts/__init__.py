"""Charts as inline SVG: `marks` draws dots, curves and bars, `xy` whatever has two axes."""
