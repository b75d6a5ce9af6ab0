"""Which of some images a sample takes."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from labeler.files.image_table import ImageTable
from labeler.files.sampling import sampled


def sample_of(image_ids: Sequence[str], count: int) -> list[str]:
    return sampled(ImageTable.of(pa.array(image_ids), pa.nulls(len(image_ids), pa.string())), count).ids()
