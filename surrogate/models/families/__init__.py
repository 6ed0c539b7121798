"""Families of networks, one file each: settings, builder and registration."""
