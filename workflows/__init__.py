"""The jobs of labeler, its command line, and what they share."""

DISTRIBUTION = "autodistill-labeler"  # tells this package from other projects' of the same name
