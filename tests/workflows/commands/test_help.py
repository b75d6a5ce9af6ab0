"""Help pages, the reference, and what is the same for all commands."""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from labeler.errors import UsageError
from tests.support.command_line import labeler_command, options_of
from tests.support.made_folder import write_labeled
from workflows.commands.cli import COMMANDS, load, main
from workflows.commands.parsing import all_flags
from workflows.commands.reference import entries, markdown

OF_MODELS = (
    "--model --detector --segmenter --device --precision --batch-size --prompts-per-caption --floor --max-instances "
    "--clean-share --tagger --tagger-model --vocabulary --tag-score --tag-tiles"
)
OF_GATE = (
    "--score --min-score --min-joint-score --accept-score --min-mask-score --min-stability --min-area --max-area-share "
    "--min-box-iou --duplicate-iou --cross-class-iou --contained-share --group-share --class-accept-score"
)
OF_RUNS = (
    "--shard-size --restart --retry-failed --verify-content --fast-scan --prune --max-failures --allow-failures "
    "--engine --address --workers --gpus-per-worker --cpus-per-worker"
)
OF_DATASETS = (
    "--defaults --include-review --no-include-review --val-share --seed --link --overwrite-edits --min-tag-count "
    "--max-classes --formats --format --segmentation --background --smooth-radius --frame --margin"
)
LABEL = f"-o --output --classes --ontology --gate-below {OF_MODELS} {OF_GATE} {OF_RUNS} {OF_DATASETS}"
# What scripts of users may say, as of version 0.1.0.
FLAGS = {
    "demo": "-o --output --scenes --auto",
    "preview": f"-o --output --images --classes --ontology --gate-below --min-tag-count --max-classes {OF_MODELS} "
    + OF_GATE,
    "tag": f"-o --output --sample --synonyms --min-tag-count --max-classes {OF_RUNS} {OF_MODELS}",
    "label": LABEL,
    "export": f"--ontology --images {OF_GATE} {OF_DATASETS}",
    "evaluate": "--truth --map --rank-by --iou --band-width --band-weight --images --protocol",
    "tune": "-o --truth --target --score --map --min-examples --folds --seed",
    "report": "-o --output --samples --seed --images",
    "review": "--verdict --class --port --no-open --apply --images --overwrite-edits --to -o --folder --limit "
    "--image-url --from",
    "submit": f"{LABEL} --name --no-wait --print-manifest --image --namespace --schedule --time-zone --storage-claim "
    "--storage-path --secret --memory --run-as-user --retries",
    "models": "",
}


@pytest.mark.parametrize("name", FLAGS)
def test_no_flag_of_users_scripts_is_gone(name: str) -> None:
    flags = {each for flag in all_flags(load(name)) for each in (*flag.names, *flag.off_names)}
    assert flags >= {*FLAGS[name].split(), "--config", "-h", "--help"}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_pages(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main([name, "--help"]) == 0
    page = capsys.readouterr().out
    assert main(["help", name]) == 0
    assert capsys.readouterr().out == page
    assert " ".join(page.split()).startswith(COMMANDS[name])
    assert page.index("Examples:") < page.index(f"Usage: labeler {name}")
    assert max(map(len, page.splitlines())) <= 140, "examples stand on one line each"
    text = " ".join(page.split())
    for flag in all_flags(load(name)):
        assert flag.setting.hidden == (flag.setting.help not in text), flag.title
        if flag.default_text and not flag.setting.hidden and (flag.kind != "switch" or flag.off_names):
            assert f"(default: {flag.default_text})" in text, flag.title


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_of_help_pages_are_command_lines(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for config in ("job.toml", "tuned.toml"):
        (tmp_path / config).touch()
    examples = load(name).examples
    assert 2 <= len(examples) <= 3
    for example in examples:
        program, *arguments = shlex.split(example.partition("|")[0])
        assert program == "labeler"
        options_of(arguments)


def test_the_page_of_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    page = capsys.readouterr().out
    assert re.findall(r"^  (\w+)  +[A-Z]", page, re.MULTILINE) == list(COMMANDS)
    assert main(["help"]) == 0
    assert capsys.readouterr().out == page
    assert main([]) == 2
    assert capsys.readouterr().out == page


def test_every_flag_is_in_the_reference() -> None:
    text, listed = markdown(), list(entries())
    general = text.partition("## Every command")[2].partition("\n## ")[0]
    for name in COMMANDS:
        section = text.partition(f"## labeler {name}\n")[2].partition("\n## ")[0]
        assert COMMANDS[name] in section
        rows = {row.split("`")[1]: row for row in (general + section).splitlines() if row.startswith("| `")}
        flags = [flag for flag in all_flags(load(name)) if not flag.setting.hidden]
        assert len(flags) == len([entry for entry in listed if entry.command == name])
        for flag in flags:
            (row,) = (row for shown, row in rows.items() if flag.title in re.split("[ ,]", shown))
            assert flag.setting.help in row
            assert all(f"`{alias}`" in row for alias in flag.setting.aliases)
    table_rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in table_rows), "five cells each"


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"labeler {version('autodistill-labeler')}\n"
    told = subprocess.run(labeler_command("--version"), capture_output=True, text=True, check=True)
    assert told.stdout == f"labeler {version('autodistill-labeler')}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("lable photos", "unknown command lable; did you mean label?"),
        ("xyzzy", "unknown command xyzzy; see `labeler --help`"),
        ("--verson", "unknown flag --verson; see `labeler --help`"),
        ("label photos -o out --clases dog", "unknown flag --clases; did you mean --classes?"),
        ("label photos -o out --xyzzy 3", "unknown flag --xyzzy; see `labeler label --help`"),
        ("label photos -o out -x 3", "unknown flag -x; see `labeler label --help`"),
        ("label photos more -o out", "unexpected argument more; see `labeler label --help`"),
        ("label -o out --classes dog", "the following arguments are required: IMAGES; see `labeler label --help`"),
        ("label photos --classes dog", "-o/--output is missing: folder or URI to write the dataset"),
        ("label photos -o", "-o/--output: expected one argument; see `labeler label --help`"),
        ("label photos -o out --floor high", "--floor must be a number above 0 and at most 1, not 'high'"),
        ("label photos -o out --batch-size 1.5", "--batch-size must be auto or a whole number, 1 or more, not '1.5'"),
        (
            "label photos -o out --classes dog --model bst",
            "--model must be one of demo, fast, balanced, best, ",
        ),
        (
            "label photos -o out --classes dog --class-accept-score dgo=0.3",
            "'dgo' is not among the classes",
        ),
        ("report out --samples 0", "--samples must be a whole number, 1 or more, not 0"),
        ("review out --limit 3", "--limit goes with --to"),
        ("review out --segmenter facebook/sam-vit-base", "--segmenter goes with --assist"),
        ("review out --to cvat --assist", "--to opens no page: leave out --assist"),
        ("evaluate out", "--ground-truth is missing"),
    ],
)
def test_mistakes_get_one_line_and_a_hint(arguments: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments.split()) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"labeler: {said}" if not said.startswith("'") else "labeler: --class-accept-score: ")
    assert said in output.err
    assert output.err.count("\n") == 1


def test_help_wins_over_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", "--flor", "2", "--help"]) == 0
    assert "--floor P" in capsys.readouterr().out


def test_a_flag_that_has_another_name_now(tmp_path: Path) -> None:
    config = tmp_path / "job.toml"
    for text in ("truth = 'a.json'", "ground-truth = 'a.json'", "ground_truth = 'a.json'"):
        config.write_text(text)
        for command in (["evaluate", "out"], ["tune", "out", "-o", "tuned.toml"]):
            assert options_of([*command, "--config", config]).ground_truth == "a.json"
            assert options_of([*command, "--config", config, "--truth", "b.json"]).ground_truth == "b.json"
            assert options_of([*command, "--ground-truth", "b.json"]).ground_truth == "b.json"
    config.write_text("truht = 'a.json'")
    with pytest.raises(UsageError, match="unknown key 'truht'; did you mean truth"):
        options_of(["evaluate", "out", "--config", config])


def test_quiet_leaves_the_last_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = write_labeled(tmp_path, [f"{number}.png" for number in range(3)], ("dog", "cat"), side=64)
    export = ["export", str(out), "--val-share", "0.4"]
    assert main([*export, "--quiet"]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("summary: command=export exit_code=1 ")
    assert main(["-q", *export]) == 0
    assert capsys.readouterr().out.startswith("summary: command=export exit_code=0 ")
    assert main(["report", str(out), "-q"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(str(out / "report.html"))
    assert main(["report", str(out / "none"), "-q"]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main(export) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) > 5
    assert said[-1].startswith("summary: command=export exit_code=0 ")


def test_verbose_logs_what_is_done(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    assert main(["models", "--verbose"]) == 0
    assert any(record.levelno == logging.DEBUG and record.name.startswith("workflows.") for record in caplog.records)
    caplog.clear()
    assert main(["models"]) == 0
    assert not caplog.records
