"""The annotation tools that review sets are written for."""

TOOLS = ("label-studio", "cvat", "fiftyone")
