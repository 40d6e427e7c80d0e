"""A new application: written once, and its owner's from then on."""
