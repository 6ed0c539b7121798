"""Roll-outs: a time stepper fed its own predictions over whole simulations, scored at every lead time."""
