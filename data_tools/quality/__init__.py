"""How good a set of critic records is: doubles, overlap, balance, reasons; a sample, a card."""
