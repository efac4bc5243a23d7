"""What joining gave one hospital: the released model, one of its own, and one fine-tuned here."""
