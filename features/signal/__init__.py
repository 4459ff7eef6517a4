"""Numbers out of sound and pictures that features are made of: arrays in, arrays out."""
