"""Class lists as other tools write them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

from ontologies import Ontology, OntologyError, OntologyWarning, read_ontology

ID2LABEL = {"0": "person", "1": "traffic_light", "10": "cat", "2": "dog"}
ORDERED = [("person", ["person"]), ("traffic_light", ["traffic light"]), ("dog", ["dog"]), ("cat", ["cat"])]
LABELMAP = """\
# label:color_rgb:parts:actions
background:0,0,0::
person:192,0,128::
traffic_light:51,221,255:red,green:blinks
dog:::
cat:1, 2, 3::
"""
STUDIO = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image"><Label value="person"/><Label value="traffic_light"/></BrushLabels>
  <!-- the same classes once more -->
  <PolygonLabels name="polygon" toName="image"><Label value="person"/><Label value="dog"/><Label value="cat"/>
  </PolygonLabels>
</View>"""
CVAT = [
    {"name": "person", "id": 31, "color": "#ff6037", "type": "any", "attributes": []},
    {"name": "traffic_light", "id": 12, "color": "#33ddff", "type": "mask", "attributes": [{"name": "state", "id": 3}]},
    {"name": "dog", "type": "any", "attributes": []},
    {"name": "cat", "type": "any", "attributes": []},
]
CVAT_XML = """<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><job><labels>
<label><name>person</name></label><label><name>traffic_light</name></label><label><name>dog</name></label>
<label><name>nose</name><parent>dog</parent></label><label><name>cat</name></label></labels></job></meta>
<image id="0" name="a.png"><mask label="fox"/></image></annotations>"""
COCO = [{"id": n, "name": name, "supercategory": "all"} for n, name in ((1, "person"), (7, "traffic_light"))] + [
    {"id": 90.0, "name": "cat"},
    {"id": "9", "name": "dog"},
]


def read(folder: Path, name: str, content: Any) -> Ontology:
    path = folder / name
    suffix = path.suffix
    text = content if isinstance(content, str) else json.dumps(content) if suffix == ".json" else yaml.dump(content)
    path.write_text(text, encoding="utf-8")
    return read_ontology(path)


def shape(ontology: Ontology) -> list[tuple[str, list[str]]]:
    return [(item.name, list(item.prompts)) for item in ontology.classes]


@pytest.mark.filterwarnings("ignore:.*is left out:ontologies.OntologyWarning")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("id2label.json", ID2LABEL),
        ("id2label.yaml", {int(key): value for key, value in ID2LABEL.items()}),
        ("config.json", {"architectures": ["X"], "id2label": ID2LABEL, "label2id": {"else": 0}, "num_labels": 4}),
        ("config.json", {"label2id": {name: number for number, name in ID2LABEL.items()}}),
        ("label2id.json", {name: int(number) for number, name in ID2LABEL.items()}),
        ("detr.json", {"id2label": {"0": "N/A", **{str(int(k) + 1): v for k, v in ID2LABEL.items()}, "50": "N/A"}}),
        ("list.json", ["person", "traffic_light", "dog", "cat"]),
        ("list.yaml", ["person", "traffic_light", "dog", "cat"]),
        ("list.toml", 'classes = ["person", "traffic_light", "dog", "cat"]'),
        ("fiftyone.json", {"classes": ["person", "traffic_light", "dog", "cat"], "labels": {"a": {"label": 0}}}),
        ("metadata.json", {"default_classes": ["person", "traffic_light", "dog", "cat"], "classes": {}}),
        ("metadata.json", {"classes": {"ground_truth": ["person", "traffic_light", "dog", "cat"]}}),
        ("labelmap.txt", LABELMAP),
        ("numbered.txt", "0: person\n1: traffic_light\n2: dog\n3: cat\n"),
        ("numbered.txt", "1\tperson\n2\ttraffic_light\n3\tdog\n4\tcat\n"),
        ("label_colors.txt", "0 0 0 background\n192 0 128 person\n51 221 255 traffic_light\n0 9 0 dog\n1 2 3 cat\n"),
        ("config.xml", STUDIO),
        ("annotations.xml", CVAT_XML),
        ("labels.json", CVAT),
        ("task.json", {"name": "task", "labels": CVAT}),
        ("categories.json", COCO),
        ("categories.json", {"categories": ["person", "traffic_light", "dog", "cat"]}),
        ("instances.json", {"images": [], "annotations": [], "categories": COCO}),
        ("data.yaml", {"path": "x", "train": "y", "nc": 4, "names": ["person", "traffic_light", "dog", "cat"]}),
    ],
)
def test_one_list_in_every_form(name: str, content: Any, tmp_path: Path) -> None:
    assert shape(read(tmp_path, name, content)) == ORDERED


def test_what_was_understood_before_still_is(tmp_path: Path) -> None:
    for name, content in (
        ("pairs.json", {"puppy": "dog", "classes": "text", "names": "name tag"}),
        ("list.json", ["puppy=dog", "classes=text", "names=name tag"]),
        (
            "own.yaml",
            [
                {"name": "dog", "prompts": ["puppy"]},
                {"name": "text", "prompts": ["classes"]},
                {"name": "name tag", "prompts": ["names"]},
            ],
        ),
    ):
        expected = [("dog", ["puppy"]), ("text", ["classes"]), ("name tag", ["names"])]
        assert shape(read(tmp_path, name, content)) == expected


ROBOFLOW = [
    {"id": 0, "name": "warehouse-v2", "supercategory": "none"},
    {"id": 1, "name": "pallet", "supercategory": "warehouse-v2"},
    {"id": 2, "name": "forklift", "supercategory": "warehouse-v2"},
]


def test_the_project_that_roboflow_writes_as_category_0(tmp_path: Path) -> None:
    with pytest.warns(OntologyWarning, match=r"category 0, 'warehouse-v2', is left out: it only groups the others"):
        assert read(tmp_path, "a.json", {"categories": ROBOFLOW}).class_names == ("pallet", "forklift")
    named_as_class = [{**each, "supercategory": "pallet"} for each in ROBOFLOW[1:]]
    with pytest.warns(OntologyWarning):
        ontology = read(tmp_path, "a.json", {"categories": [{**ROBOFLOW[0], "name": "pallet"}, *named_as_class]})
    assert ontology.class_names == ("pallet", "forklift")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        used = {"categories": ROBOFLOW, "annotations": [{"category_id": 0}]}
        assert read(tmp_path, "a.json", used).class_names == ("warehouse-v2", "pallet", "forklift")


def test_synonyms_of_lvis_are_prompts_unless_they_are_shared(tmp_path: Path) -> None:
    categories = [
        {"id": 3, "name": "bow_(decorative_ribbons)", "synonyms": ["bow_(decorative_ribbons)", "knot"]},
        {"id": 1, "name": "aerosol_can", "synonyms": ["aerosol_can", "spray_can", "can"], "frequency": "c"},
        {"id": 2, "name": "can", "synonyms": ["can", "tin_can", "knot"]},
    ]
    assert shape(read(tmp_path, "lvis.json", {"categories": categories})) == [
        ("aerosol_can", ["aerosol can", "spray can"]),
        ("can", ["can", "tin can"]),
        ("bow_(decorative_ribbons)", ["bow decorative ribbons"]),
    ]


def test_what_stands_for_no_class_is_left_out_and_said(tmp_path: Path) -> None:
    with pytest.warns(OntologyWarning, match="'background' is left out: it stands for no class"):
        assert read(tmp_path, "labelmap.txt", LABELMAP).class_names[0] == "person"


@pytest.mark.filterwarnings("ignore:.*is left out:ontologies.OntologyWarning")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", {"0": "person", "dog": "dog"}, "some keys are numbers and some are words; write id: name"),
        ("a.json", {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, r"placeholders \(LABEL_0, …\); write the names"),
        ("a.json", {"id2label": ["dog"]}, "'id2label' must be a table of id: name"),
        ("a.json", {"id2label": None}, "'id2label' must be a table of id: name"),
        ("a.json", {"0": "dog", "00": "cat"}, "two classes have the id 0"),
        ("a.json", {"0": "dog", "1": "dog"}, "two classes are named 'dog'"),
        ("a.json", {"dog": 0, "cat": 0}, "two classes have the same id"),
        ("a.json", {"0": 5}, "must be text, not int"),
        ("a.json", ["dog", 5], "must hold names, or tables that have a name each"),
        ("a.json", [{"id": 1}], "must hold names, or tables that have a name each"),
        ("a.json", {"classes": {"one": ["dog"], "two": ["cat"]}}, "'classes' holds 2 lists of classes"),
        ("data.yaml", {"path": "x", "train": "images/train", "names": "dog"}, "'names' must be a list of class names"),
        ("a.json", {"classes": 5}, "there is no list of class names in it"),
        ("a.json", {"categories": [{"id": 1, "name": "a", "synonyms": [5]}]}, "a name or synonym must be text"),
        ("a.txt", "background:0,0,0::\ndog\n", "'dog' is no line of a labelmap.txt"),
        ("a.txt", "background:0,0,0::\n", "no class"),
        ("a.txt", "0 dog\n1 cat\n", "its lines are numbered; write 0: dog if .* ids, or 0 dog=0 dog if"),
        ("a.xml", "<View><Choices/></View>", "there are no labels in it; give Label Studio's"),
        ("a.xml", '<View><Labels><Label value="$labels"/></Labels></View>', r"come from the tasks' data \(\$labels\)"),
        ("a.xml", "<View><Labels><Label/></Labels></View>", "class name must be text"),
        ("a.xml", "<View>", "not valid XML"),
    ],
)
def test_what_is_ambiguous_is_refused_with_what_to_write(name: str, content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(OntologyError, match=message) as caught:
        read(tmp_path, name, content)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)
