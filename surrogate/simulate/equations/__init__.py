"""The equations of the catalogue, one file each, and `own` for a right-hand side of the user."""
