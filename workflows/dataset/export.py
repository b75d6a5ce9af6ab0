"""Records to dataset: judge every instance, split the images, write the formats. No model runs here.

Only what changed is written, and what the user edited or added stays, see ``workflows.dataset.dataset``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from labeler.decisions import Decision, latest
from labeler.errors import ImageError, RunError
from labeler.files.processes import Spread, on_all_cores
from labeler.files.storage import as_local
from ontologies import Ontology
from workflows.dataset.adoption import entries_of_last_export
from workflows.dataset.card import plan_card
from workflows.dataset.dataset import Dataset, open_dataset
from workflows.dataset.decision_log import by_image, read_decisions
from workflows.dataset.export_summary import ExportSummary
from workflows.dataset.files import ImageFiles, plan_class_files
from workflows.dataset.image_readers import ImageReaders
from workflows.dataset.journal import SPLIT_TABLE
from workflows.dataset.judged_shards import JudgedShard, JudgedShards
from workflows.dataset.judging import Outcome, Rules
from workflows.dataset.ledger import Entry
from workflows.dataset.nothing_accepted import CandidateTally
from workflows.dataset.originals import Originals, refusal_of
from workflows.dataset.placing import placed
from workflows.dataset.polygon_fit import PolygonFits
from workflows.dataset.recovery import recover
from workflows.dataset.shared_files import SharedFiles
from workflows.dataset.sightings import Sightings
from workflows.dataset.split_notes import empty_split
from workflows.dataset.splitting import Splitting, open_splitting
from workflows.dataset.versions import check_versions, publish_version
from workflows.run.changes import own_links_noted
from workflows.run.classes import SavedClasses, classes_of_tags
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


def export(
    run: RunFolder,
    root: AnyPath,
    ontology: Ontology | None,
    config: ExportConfig,
    *,
    previous: ExportConfig | None = None,
    overwrite_edits: bool = False,
    prune: bool = False,
    resplit: bool = False,
    root_is_named: bool = True,
    taken_in: Mapping[str, str] | None = None,
    spread: Spread = on_all_cores,
) -> ExportSummary:
    """Write the dataset of ``run`` from its records and the images below ``root``, a folder or URI.

    An image that is gone from ``root`` but still in the dataset stays there. What people decided in ``run`` overrides
    scores and thresholds. The run is locked.

    Args:
        ontology: None makes classes of the images' tags, see ``workflows.run.classes``.
        previous: what the dataset was last written with; tells what is this tool's in a dataset without a ledger.
        overwrite_edits: replace files of the dataset that the user edited.
        prune: images that are gone from ``root`` and from the records are deleted instead of set aside.
        resplit: move groups of images that are in several splits into one; if what divides images changed, assign all
            images anew. Otherwise, an image stays in the split that it has.
        root_is_named: the user named ``root`` in this run. Otherwise an image is taken from there only if its content
            is the labeled one, and a store is not asked at all unless the dataset lies in it too.
        taken_in: digests, by name, of edited files whose content is in the decisions; they are replaced.
        spread: where instances are judged.

    Raises:
        RunError: none of the labeled images is there any more, or none has a tag where tags make the classes; the
            dataset stays as it is.
    """
    recover(run.output)
    if config.version_datasets:
        check_versions(run.output)
    if ontology is None:
        classes = classes_of_tags(run.tags(), run.classes(), config.min_tag_count, config.max_classes)
        if classes is None:
            raise RunError(
                f"{run.output}: no image has a tag to make a class of; lower --tag-score or --min-tag-count, or name "
                "classes"
            )
        tagged, ontology = True, classes
    else:
        tagged = False

    def last_export() -> Iterable[Entry]:
        return entries_of_last_export(run, root, ontology, previous or config, tagged)

    refusal = "" if root_is_named else refusal_of(root, run.output)
    saved = run.settings.read(("ontology", "export"))
    originals = Originals(root, verify=not root_is_named, refusal=refusal, reading=saved.reading)
    with (
        own_links_noted(run, root),
        open_dataset(
            run.output, originals, config.link, last_export, overwrite_edits, prune, taken_in, config.layout
        ) as dataset,
    ):
        before = (previous or config).split_rule
        splitting = open_splitting(run, dataset.ledger, config.split_rule, before, resplit)
        decisions = by_image(read_decisions(run, ontology))
        shards = JudgedShards(run, Rules(ontology, tagged, config), decisions, spread)
        shared = SharedFiles(dataset, ontology.class_names, config)
        summary, outcomes = _plan(shards, decisions, dataset, ontology, config, splitting, shared)
        if summary.labeled_missing and not summary.images:
            raise RunError(
                f"none of the labeled images is below {root} any more; put them back (the dataset is as it was)"
            )
        if summary.found_failed and not summary.images:
            image_id, cause = next(failure for failure in summary.failures if failure[0] in summary.found_failed)
            raise RunError(
                f"none of {len(summary.found_failed)} images can be in the dataset ({image_id}: {cause}); fix that and "
                "export again (the dataset is as it was)"
            )
        shared.plan(shards)
        plan_class_files(dataset, ontology.class_names, list(summary.images), config)
        by_hand = sum(summary.decided.values())
        counts = summary.images, summary.verdicts, by_hand
        digest = plan_card(dataset, ontology, config, saved, *counts, shards.digest)
        files = dataset.files_after() if config.version_datasets else ()
        splitting.write(dataset.destination.building / SPLIT_TABLE, run.stamps().column("image_id"))
        dataset.publish_beside(SPLIT_TABLE)
        dataset.finish()
        shared.published()
        shards.forget_others()
        if config.version_datasets and (output := as_local(run.output)) is not None:
            summary.version = publish_version(output, digest, dict(files), config.link == "copy")
    summary.splits = splitting.summary()
    summary.empty_split = empty_split(summary.splits, config)
    summary.edited, summary.restored, summary.set_aside = dataset.edited, dataset.restored, dataset.set_aside
    run.write_classes(SavedClasses(ontology, config.min_tag_count, config.max_classes))
    tally = CandidateTally(config.quality, ontology.classes)
    tally.count(sum(summary.images.values()), outcomes)
    if not tally.accepted:
        for image, split in zip(shards.again(), shared.splits, strict=True):
            if split:
                tally.look_for_best(image.decided.record, image.judgements)
    summary.nothing_accepted = tally.lines(saved.floor, str(saved.model.get("detector")))
    return summary


def _plan(
    shards: Iterable[JudgedShard],
    decisions: Mapping[str, Sequence[Decision]],
    dataset: Dataset,
    ontology: Ontology,
    config: ExportConfig,
    splitting: Splitting,
    shared: SharedFiles,
) -> tuple[ExportSummary, Counter[Outcome]]:
    """Plan the files of every image, tell ``shared`` of it, and count the outcomes."""
    summary, outcomes = ExportSummary(polygons=PolygonFits(config)), Counter[Outcome]()
    files = ImageFiles(dataset, ontology.class_names, config)
    undecided = dict(decisions)
    readers = ImageReaders(config)
    sightings = Sightings(readers)
    cutouts = traits = None
    images = (image for shard in shards for image in shard.images())
    for row, image in enumerate(placed(images, dataset, splitting, readers)):
        record = image.judged.record
        if image.judged.cutouts is not cutouts:  # all images of a shard are done
            if cutouts is not None and traits is not None:
                cutouts.keep()
                traits.keep()
            cutouts, traits = image.judged.cutouts, image.judged.traits
        try:
            if image.fault:
                raise ImageError(image.fault)
            if image.placed is not None:
                undecided.pop(record.image_id, None)
                files.add(image.judged, image.placed, image.file_name, image.split)
        except ImageError as error:
            summary.failures.append((record.image_id, str(error)))
            if record.status != "error":
                summary.found_failed.add(record.image_id)
            shared.leave_out()
            continue
        if image.placed is None:
            summary.missing.append(record.image_id)
            summary.labeled_missing += record.status != "error"
            shared.leave_out()
            continue
        shared.add(image.judged, image.placed, image.file_name, image.split)
        sightings.add(image.seen)
        summary.polygons.add(record.image_id, image.judged.fit)
        splitting.place(row, image.split)
        outcomes.update(image.judged.outcomes)
        summary.unmatched += image.judged.unmatched
        summary.images[image.split] += 1
        summary.without_objects += not image.judged.written
        summary.converted.update([image.converted] if image.converted else [])
    if cutouts is not None and traits is not None:
        cutouts.keep()
        traits.keep()
    summary.sights, summary.seen = list(sightings.lines()), sightings.seen()
    left = latest(each for on_image in undecided.values() for each in on_image)
    summary.unmatched += (each for each in left if each.verdict != "none")
    _count(summary, outcomes, ontology)
    return summary, outcomes


def _count(summary: ExportSummary, outcomes: Mapping[Outcome, int], ontology: Ontology) -> None:
    for each, count in outcomes.items():
        if (spec := ontology.classes[each.class_id]).removed:
            continue
        summary.verdicts[spec.name][each.verdict] += count
        if each.by_hand:
            summary.decided[each.verdict] += count
        if each.reason:
            summary.reasons[each.reason] += count
