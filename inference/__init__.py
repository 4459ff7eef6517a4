"""A trained model put to use: recordings of one's own in, predictions out.

`exporting`, `publishing` and `web` hand the model on. Flags of training and the loop are not known
here; subcommands read flags and call this room.
"""
