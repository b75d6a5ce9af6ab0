"""What a review shows, and a review set holds: the selections by verdict, and the annotation tools."""

TOOLS = ("label-studio", "cvat", "fiftyone")
# By the verdict of the gate, or of people where they decided.
SELECTIONS: dict[str, tuple[str, ...]] = {
    "review": ("review",),
    "accept": ("accept",),
    "reject": ("reject",),
    "not-rejected": ("accept", "review"),
    "all": ("accept", "review", "reject"),
}
