"""The nouns and the maths. No input or output, no clock, no chance."""
