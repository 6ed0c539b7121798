"""Time integrators, steady solvers and discretisations, for batches of fields of shape (B, C, *S)."""
