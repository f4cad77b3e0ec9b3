"""Many tasks of one backbone: as jobs of their own on one machine or many, or together in one training."""
