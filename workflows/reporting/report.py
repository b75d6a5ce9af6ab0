"""``labeler report``: one HTML file that shows what was labeled, how sure the models were, and what became of it.

The file holds all it needs and asks the network for nothing: its content security policy forbids that. Records stream
by once; pictures are of a sample, the same one every time, so that the file stays small however many images there are.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from markupsafe import Markup

from labeler.decided import distinct
from labeler.errors import RunError, UsageError
from labeler.files.storage import write_bytes
from labeler.quality import VERDICTS, EffectiveThresholds, Score, effective_thresholds
from labeler.records import ImageRecord
from workflows.dataset.labeled import Labeled
from workflows.drawing.figures import Histogram, histogram_svg
from workflows.drawing.thumbnails import Picture, Sample, pictures
from workflows.evaluation.saved import read_evaluation
from workflows.reporting.tallies import Reservoir, Sampler, Tally, key_of
from workflows.settings.pages import SAMPLES_EACH, SAMPLES_TOTAL

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

EMPTY_SHOWN = 24
PICTURE_BYTES = 20_000_000  # of a file that is to stay below 30 MB


@dataclass(frozen=True)
class ReportSummary:
    """What was written.

    Attributes:
        images: labeled, the failed ones too.
        shown: instances with a picture in the report.
        size: bytes of the file.
    """

    path: AnyPath
    images: int
    instances: int
    shown: int
    size: int


def report(labeled: Labeled, path: AnyPath | None = None, samples: int = SAMPLES_EACH, seed: int = 0) -> ReportSummary:
    """Write the report on a labeled folder.

    Args:
        path: of the file; None for ``report.html`` in the folder.
        samples: instances of each class and verdict that are shown, at most; fewer where ``SAMPLES_TOTAL`` or the
            file's size call for it.
        seed: of the choice.

    Raises:
        UsageError: ``samples`` is not positive.
        RunError: no image is labeled yet.
    """
    if samples < 1:
        raise UsageError(f"--samples must be 1 or more, not {samples}")
    path = path or labeled.run.output / "report.html"
    tally, sampler, empty = Tally(), Sampler(samples, SAMPLES_TOTAL, seed), Reservoir[Sample](EMPTY_SHOWN)
    for record, judgements in labeled.judged():
        tally.add(record, judgements)
        bare = ImageRecord(record.image_id, record.width, record.height, record.digest)
        for index in distinct(record.instances, [judgement.verdict for judgement in judgements]):
            sampler.add(Sample(bare, record.instances[index], judgements[index]), index)
        if record.status == "ok" and not any(judgement.verdict == "accept" for judgement in judgements):
            empty.add(key_of(seed, record, -1), Sample(bare))
    images = sum(tally.images.values())
    if not images:
        raise RunError(f"{labeled.run.output}: no image is labeled yet; run the label command first")

    shown = _within(PICTURE_BYTES, sampler.samples(), labeled)
    truth = _truth(labeled)
    page = _render(
        title=str(labeled.run.output).rstrip("/").rpartition("/")[2] or str(labeled.run.output),
        style=_asset("report.css"),
        script=(script := _asset("report.js")),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        verdicts=VERDICTS,
        class_names=labeled.ontology.class_names,
        unfound=[name for class_id, name in enumerate(labeled.ontology.class_names) if class_id not in tally.classes],
        classes=labeled.ontology.classes,
        distractors=labeled.ontology.distractors,
        settings={**labeled.settings.to_json(), "export": asdict(labeled.export)},
        quality={k: v for k, v in labeled.export.quality.to_dict().items() if k != "class_accept_scores"},
        thresholds=_thresholds(labeled),
        waiting=sum(len(shard.image_ids) for shard in labeled.run.waiting()),
        tally=tally,
        totals=tally.verdicts,
        images=images,
        figures=_figures(labeled, tally, truth),
        truth=truth,
        shown=shown,
        empty=list(pictures([sample for _, sample in empty.items()], labeled.image)),
        data=_data(labeled, shown),
        seed=seed,
    )
    data = page.encode()
    write_bytes(path, data)
    return ReportSummary(path, images, tally.verdicts.total(), len(shown), len(data))


def _render(**values: Any) -> str:
    import jinja2

    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("workflows.reporting", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    try:
        return templates.get_template("report.html.j2").render(**values)
    except (jinja2.UndefinedError, TypeError) as error:  # of what is not there, or is no number
        raise RunError(f"run/run.json or evaluation/evaluation.json is damaged ({error})") from None


def _asset(name: str) -> Markup:
    """A style sheet or script of this package, as it stands."""
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def _within(limit: int, samples: list[Sample], labeled: Labeled) -> list[tuple[Sample, Picture]]:
    """As many of the samples, from the first on, as have room; by verdict, class and falling score."""
    drawn = {id(sample): picture for sample, picture in pictures(samples, labeled.image)}
    chosen: list[tuple[Sample, Picture]] = []
    size = 0
    for sample in samples:
        picture = drawn[id(sample)]
        assert sample.instance is not None
        size += len(picture.uri) + 2 * len(picture.path) + len(sample.instance.rle["counts"])
        if size > limit:
            break
        chosen.append((sample, picture))
    return sorted(chosen, key=lambda each: _gallery_order(each[0]))


def _gallery_order(sample: Sample) -> tuple[int, float]:
    assert sample.instance is not None
    assert sample.judgement is not None
    return VERDICTS.index(sample.judgement.verdict), -sample.instance.joint_score


def _thresholds(labeled: Labeled) -> list[EffectiveThresholds]:
    """Of each class, by id."""
    return [effective_thresholds(labeled.export.quality, spec) for spec in labeled.ontology.classes]


def _data(labeled: Labeled, shown: Iterable[tuple[Sample, Picture]]) -> dict[str, Any]:
    """What the page's script works on; it names the places of a row.

    Decisions are kept in the browser under ``report``, a digest of the run.
    """
    run = json.dumps([labeled.settings.labeling, labeled.settings.input], sort_keys=True)
    instances = []
    for sample, _ in shown:
        instance, judgement, record = sample.instance, sample.judgement, sample.record
        assert instance is not None
        assert judgement is not None
        counts = instance.rle["counts"].decode("ascii")
        name = labeled.ontology.class_names[instance.class_id]
        key = hashlib.blake2b(f"{record.image_id}\0{name}\0{counts}".encode(), digest_size=8).hexdigest()
        scores = (instance.joint_score, instance.score, instance.mask_score, instance.stability)
        instances.append(
            [
                key,
                record.image_id,
                instance.class_id,
                judgement.verdict,
                judgement.reason,
                instance.prompt,
                [round(score, 4) for score in scores],
                instance.area,
                instance.rle["size"],
                counts,
            ]
        )
    return {
        "report": hashlib.blake2b(run.encode(), digest_size=8).hexdigest(),
        "classes": labeled.ontology.class_names,
        "accept": [each.accept_score for each in _thresholds(labeled)],
        "ranking": get_args(Score).index(labeled.export.quality.score),  # place among an instance's scores
        "instances": instances,
    }


def _figures(labeled: Labeled, tally: Tally, truth: dict[str, Any] | None) -> dict[str, Markup]:
    quality = labeled.export.quality

    def lines(*named: tuple[float, str]) -> list[tuple[float, str]]:
        return [(value, f"{label} {value:g}") for value, label in named if value]  # 0: switched off

    titles = {
        "joint_score": ("Joint score", []),
        "score": ("Detector score", lines((quality.min_score, "reject <"))),
        "mask_score": ("Mask score", lines((quality.min_mask_score, "reject <"))),
        "stability": ("Stability", lines((quality.min_stability, "reject <"))),
    }
    ranking = {"joint": "joint_score", "detector": "score", "mask": "mask_score"}[quality.score]
    titles[ranking][1].extend(lines((quality.min_joint_score, "reject <"), (quality.accept_score, "accept ≥")))
    own = {each.accept_score for each in _thresholds(labeled)} - {quality.accept_score, 0}
    titles[ranking][1].extend((value, "") for value in sorted(own))
    figures = {
        name: histogram_svg(tally.scores[name], name, f"Histogram: {title}", title, thresholds)
        for name, (title, thresholds) in titles.items()
    }
    figures["box_sides"] = histogram_svg(
        tally.box_sides,
        "box_sides",
        "Histogram: box side",
        "Box side, √area in pixels",
        scale="log",
        ticks=[(side, f"{side}") for side in (4, 16, 64, 256, 1024, 4096)],
    )
    figures["mask_shares"] = histogram_svg(
        tally.mask_shares,
        "mask_shares",
        "Histogram: mask area as a share of the image",
        "Mask area, share of the image",
        lines((quality.max_area_share, "reject >")),
        scale="log",
        ticks=[(1e-5, "0.001 %"), (1e-4, "0.01 %"), (1e-3, "0.1 %"), (1e-2, "1 %"), (1e-1, "10 %"), (1, "100 %")],
    )
    figures["objects"] = histogram_svg(
        tally.objects,
        "objects",
        "Histogram: accepted objects an image",
        "Accepted objects an image",
        ticks=[(count + 0.5, f"{count}" if count < 20 else "20+") for count in range(0, 21, 5)],
    )
    if truth is not None:
        scores = truth["image_score"]["histogram"]
        histogram = Histogram(tuple(scores["edges"]))
        histogram.counts[0] = scores["counts"]
        figures["image_score"] = histogram_svg(histogram, "image_score", "Histogram: score an image", "Score an image")
    return figures


def _truth(labeled: Labeled) -> dict[str, Any] | None:
    """What ``labeler evaluate`` left, if it was run, with its pictures of the worst images as data URIs."""
    content = read_evaluation(labeled.run.output)
    if content is None:
        return None
    settings = content["settings"]
    now = json.loads(json.dumps(labeled.export.quality.to_dict()))
    is_stale = (settings["quality"], settings["include_review"]) != (now, labeled.export.include_review)
    return {**content, "is_stale": is_stale}
