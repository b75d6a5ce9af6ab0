"""``labeler report``: one HTML file that shows what was labeled, how sure the models were, and what became of it.

The file is self-contained, and its content security policy forbids it to load anything. Records are read once, as a
stream. Only a sample of the instances has pictures, the same sample every time, so the file stays small for any number
of images.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from labeler.decided import distinct
from labeler.errors import RunError, UsageError
from labeler.files.storage import write_bytes
from labeler.quality import VERDICTS, EffectiveThresholds, effective_thresholds
from labeler.records import ImageRecord
from workflows.dataset.labeled import Labeled
from workflows.dataset.split_notes import leak_in_words
from workflows.dataset.splitting import splits_of_run
from workflows.drawing.assets import shared_asset
from workflows.drawing.figures import Histogram, histogram_svg
from workflows.drawing.thumbnails import Picture, Sample, pictures
from workflows.evaluation.saved import read_evaluation
from workflows.reporting.tallies import Reservoir, Sampler, Tally, key_of
from workflows.run.pass_work import lacking
from workflows.settings.pages import SAMPLES_EACH, SAMPLES_TOTAL

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

EMPTY_SHOWN = 24
PICTURE_BYTES = 20_000_000  # for pictures, in a file that should stay below 30 MB

ROLES = ("detector", "segmenter")  # of the models that a labeler may have
TOLD_ELSEWHERE = ("labeler", "ontology", "tags_only", "tagging")


@dataclass(frozen=True)
class ReportSummary:
    """What was written.

    Attributes:
        images: number of labeled images, including failed ones.
        shown: number of instances with a picture in the report.
        size: of the file, bytes.
    """

    path: AnyPath
    images: int
    instances: int
    shown: int
    size: int


def report(labeled: Labeled, path: AnyPath | None = None, samples: int = SAMPLES_EACH, seed: int = 0) -> ReportSummary:
    """Write the report on a labeled folder.

    Args:
        path: where to write it; None for ``report.html`` in the folder.
        samples: maximum number of instances shown for each class and verdict; there are fewer if ``SAMPLES_TOTAL`` or
            the file size requires it.
        seed: of the random sample.

    Raises:
        UsageError: ``samples`` is not positive.
        RunError: no image is labeled yet.
    """
    if samples < 1:
        raise UsageError(f"--samples must be 1 or more, not {samples}")
    path = path or labeled.run.output / "report.html"
    tally, sampler, empty = Tally(), Sampler(samples, SAMPLES_TOTAL, seed), Reservoir[Sample](EMPTY_SHOWN)
    for decided, judgements in labeled.decided():
        record = decided.record
        tally.add(record, judgements)
        bare = ImageRecord(record.image_id, record.width, record.height, record.digest)
        for index in distinct(record.instances, [judgement.verdict for judgement in judgements]):
            sample = Sample(bare, record.instances[index], judgements[index], decided.decision(index))
            sampler.add(sample, index)
        if record.status == "ok" and not any(judgement.verdict == "accept" for judgement in judgements):
            empty.add(key_of(seed, record, -1), Sample(bare))
    images = sum(tally.images.values())
    if not images:
        raise RunError(f"{labeled.run.output}: no image is labeled yet; run the label command first")

    shown = _within(PICTURE_BYTES, sampler.samples(), labeled)
    ground_truth = _ground_truth(labeled)
    page = _render(
        title=str(labeled.run.output).rstrip("/").rpartition("/")[2] or str(labeled.run.output),
        style=Markup(shared_asset("page.css").decode()) + _asset("report.css"),
        script=(script := Markup(shared_asset("instance.js").decode()) + _asset("report.js")),
        instance_view=Markup(shared_asset("instance.html").decode()),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        verdicts=VERDICTS,
        class_names=labeled.ontology.class_names,
        absent=[
            spec.name
            for class_id, spec in enumerate(labeled.ontology.classes)
            if class_id not in tally.classes and not spec.removed
        ],
        classes=labeled.ontology.classes,
        distractors=labeled.ontology.distractors,
        settings={**labeled.settings.to_json(), "export": asdict(labeled.export)},
        roles=[role for role in ROLES if role in labeled.settings.labeling],
        labeled_with=[name for name in labeled.settings.labeling if name not in (*ROLES, *TOLD_ELSEWHERE)],
        quality={k: v for k, v in labeled.export.quality.to_dict().items() if k != "class_accept_scores"},
        thresholds=_thresholds(labeled),
        waiting=labeled.run.current().unlabeled(),
        lacking=list(lacking(labeled.settings, labeled.run.current().lacking())),
        splits=(splits := splits_of_run(labeled.run, labeled.export.split_rule)),
        leaks=[leak_in_words(leak) for leak in splits.first_leaks],
        tally=tally,
        totals=tally.verdicts,
        images=images,
        figures=_figures(labeled, tally, ground_truth),
        ground_truth=ground_truth,
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
    except (jinja2.UndefinedError, TypeError) as error:  # a value is missing, or is not a number
        raise RunError(f"run/run.json or evaluation/evaluation.json is damaged ({error})") from None


def _asset(name: str) -> Markup:
    """A style sheet or script of this package, not escaped."""
    return Markup(files("workflows.reporting").joinpath("templates", name).read_text(encoding="utf-8"))


def _within(limit: int, samples: list[Sample], labeled: Labeled) -> list[tuple[Sample, Picture]]:
    """The first samples whose pictures fit into ``limit`` bytes, sorted by verdict and falling score."""
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
    """What the page's script works on.

    ``report`` is a digest of the run; the browser keeps decisions under it.
    """
    run = json.dumps([labeled.settings.labeling, labeled.settings.input], sort_keys=True)
    return {
        "report": hashlib.blake2b(run.encode(), digest_size=8).hexdigest(),
        "classes": labeled.ontology.class_names,
        "accept": [each.accept_score for each in _thresholds(labeled)],
        "ranking": labeled.export.quality.score,
        "instances": [_instance_data(sample, picture, labeled.ontology.class_names) for sample, picture in shown],
    }


def _instance_data(sample: Sample, picture: Picture, class_names: Sequence[str]) -> dict[str, Any]:
    """One instance, with the names that ``ReviewQueue.item`` uses."""
    instance, judgement, decision = sample.instance, sample.judgement, sample.decision
    assert instance is not None
    assert judgement is not None
    assert decision is not None
    scores = {
        "joint": instance.joint_score,
        "detector": instance.score,
        "mask": instance.mask_score,
        "stability": instance.stability,
    } | ({"agreement": instance.agreement} if instance.agreement < 1 else {})
    return {
        "decision": decision.to_row(),
        "image_id": sample.record.image_id,
        "width": sample.record.width,
        "height": sample.record.height,
        "class_id": instance.class_id,
        "class": class_names[instance.class_id],
        "labeled_as": decision.class_name,
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "prompt": instance.prompt,
        "scores": {name: round(score, 4) for name, score in scores.items()},
        "area": instance.area,
        "picture_size": [picture.width, picture.height],
        "detector_box": [round(side, 1) for side in picture.box_xyxy or (0, 0, 0, 0)],
    }


def _figures(labeled: Labeled, tally: Tally, ground_truth: dict[str, Any] | None) -> dict[str, Markup]:
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
        "Histogram: accepted objects per image",
        "Accepted objects per image",
        ticks=[(count + 0.5, f"{count}" if count < 20 else "20+") for count in range(0, 21, 5)],
    )
    if ground_truth is not None:
        scores = ground_truth["image_score"]["histogram"]
        histogram = Histogram(tuple(scores["edges"]))
        histogram.counts[0] = scores["counts"]
        figures["image_score"] = histogram_svg(
            histogram, "image_score", "Histogram: score per image", "Score per image"
        )
    return figures


def _ground_truth(labeled: Labeled) -> dict[str, Any] | None:
    """The last result of ``labeler evaluate``, if there is one, with pictures of the worst images as data URIs."""
    content = read_evaluation(labeled.run.output)
    if content is None:
        return None
    settings = content["settings"]
    now = json.loads(json.dumps(labeled.export.quality.to_dict()))
    is_stale = (settings["quality"], settings["include_review"]) != (now, labeled.export.include_review)
    return {**content, "is_stale": is_stale}
