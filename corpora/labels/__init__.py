"""How the labels of a corpus become emotions and votes, where that takes rules of its own."""
