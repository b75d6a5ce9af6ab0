"""How much previews and reports show."""

PREVIEW_IMAGES, PREVIEW_MOST = 8, 100
SAMPLES_EACH, SAMPLES_TOTAL = 24, 1000  # instances in a report: per class and verdict, and in all
