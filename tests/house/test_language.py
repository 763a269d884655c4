"""Words that plain English does not need, wherever a person reads: code, configuration and documentation."""

from __future__ import annotations

import re
import subprocess

from rrsis_bench.resources import ROOT

FOLDERS = ("rrsis_bench", "models", "conf", "docs", "README.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile")
LEXICON = "rrsis_bench/data/text/lexicon.py"  # words of the datasets, not of the suite
SUFFIXES = (".py", ".yaml", ".md", ".j2", ".js", "Makefile")
WORDS = {
    r"picture(s|d)?": "image",
    r"anew": "again",
    r"mend(s|ed|ing)?": "fix",
    r"likewise": "also",
    r"whoever": "a person who",
    r"nobody": "no one, or name who",
    r"in silence": "without a message",
    r"a stranger": "a user",
}  # fmt: skip
OLD = re.compile(rf"(?<![A-Za-z])({'|'.join(WORDS)})(?![A-Za-z])", re.IGNORECASE)  # parts of snake_case names too


def offenders() -> list[str]:
    """``path:line: word`` of every old word in the tracked and new files of the house."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "--deduplicate", "--", *FOLDERS]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    paths = [ROOT / name for name in listed if name.endswith(SUFFIXES) and name != LEXICON]
    return [
        f"{path.relative_to(ROOT)}:{number}: {found[0]}"
        for path in paths
        if path.exists()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for found in OLD.finditer(line)
    ]


def test_no_file_uses_the_old_words():
    assert offenders() == []


def test_an_old_word_is_found_within_a_name_and_a_sentence():
    assert [found[0] for found in OLD.finditer("group_pictures: batches by picture, Anew; amend recommended")] == [
        "pictures", "picture", "Anew",
    ]  # fmt: skip
