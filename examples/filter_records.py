"""A filter of your own: reject objects that lie at the border of the image, because it may cut them off.

    python examples/filter_records.py dataset/ decisions.jsonl
    labeler review dataset/ --apply decisions.jsonl      # keeps the decisions and writes the dataset again

The records are plain Parquet with a row per image, so pandas is all that a filter needs. Its result is a list of
decisions, which override the quality gate and stay in force in every later export.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd


def read_instances(run: Path) -> pd.DataFrame:
    """A row for each instance: the size of its image, its box, class, scores and mask.

    Instances that the gate rejects are among them: if one of two duplicates is rejected by hand, the other takes its
    place.
    """
    images = pd.read_parquet(run / "records").explode("instances").dropna(subset="instances")
    fields = pd.json_normalize(images["instances"].tolist())
    return images.drop(columns="instances").reset_index(drop=True).join(fields)


def is_at_border(instances: pd.DataFrame, margin: float) -> pd.Series:
    x1, y1, x2, y2 = (instances["box_xyxy"].str[corner] for corner in range(4))
    return (x1 <= margin) | (y1 <= margin) | (x2 >= instances["width"] - margin) | (y2 >= instances["height"] - margin)


def main(dataset: str, decisions: str, margin: str = "1") -> None:
    run = Path(dataset) / "run"
    class_names = [each["name"] for each in json.loads((run / "classes.json").read_bytes())["classes"]]
    instances = read_instances(run)
    rejected = instances[is_at_border(instances, float(margin))]
    with open(decisions, "w", encoding="utf-8") as file:
        for row in rejected.itertuples():
            mask = {"size": [row.height, row.width], "counts": row.rle_counts.decode()}
            decision = {"image_id": row.image_id, "verdict": "reject", "class": class_names[row.class_id], "mask": mask}
            file.write(json.dumps(decision) + "\n")
    print(f"{len(rejected)} of {len(instances)} instances are at the border; written: {decisions}")


if __name__ == "__main__":
    main(*sys.argv[1:])
