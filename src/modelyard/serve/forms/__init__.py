"""Doors of other forms, plain rows and hosted platforms', and the document that describes them all."""
