"""The device's side: what is offered, what of it is new, and how it comes into the store. Pure Python."""
