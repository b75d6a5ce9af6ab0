"""What the tests share: scenes, small models, a fake labeler, an object store, the frozen run folder."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
