"""The embedded data set: letters of many scripts, drawn from the font faces that matplotlib ships."""
