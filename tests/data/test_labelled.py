"""Fixed subsets of train: `data.options.labelled`."""

from __future__ import annotations

from collections import Counter

import pytest

from rrsis_bench.config.compose import compose_config
from rrsis_bench.config.hashes import train_hash
from rrsis_bench.config.label import variant
from rrsis_bench.console import Terminal
from rrsis_bench.data.formats import read_index
from rrsis_bench.data.formats.labelled import SHARES, chosen
from rrsis_bench.errors import UserError
from rrsis_bench.run.data import OpenData, open_splits
from tests.fakes.rrsisd import write_fake_rrsisd


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    write_fake_rrsisd(folder, n_train=60, n_val=4, n_test=4, size=24)
    return folder


def opened(root, runs, *options):
    config = compose_config(["data=rrsisd", f"data.root={root}", f"runs={runs}", "data.counts=null", *options])
    return config, OpenData.open(config, Terminal())


def ids(dataset):
    return [sample.sample_id for sample in dataset]


def test_a_subset_keeps_the_shares_of_the_categories_and_the_smaller_is_within_the_larger(root):
    rows = read_index("rrsisd", root).rows["train"]
    whole = Counter(row.category for row in rows)
    drawn = {share: chosen(rows, share) for share in SHARES}
    for share, places in drawn.items():
        found = Counter(rows[place].category for place in places)
        assert found.keys() == whole.keys()
        for category, n in whole.items():
            assert abs(found[category] - share * n) <= 0.5 or found[category] == 1
    assert set(drawn[0.1]) < set(drawn[0.3]) < set(drawn[0.5])
    assert drawn[0.5] == sorted(drawn[0.5])
    assert drawn[0.5] != list(range(len(drawn[0.5])))


def test_a_subset_depends_on_the_ids_alone_and_is_the_same_for_everybody(root):
    rows = read_index("rrsisd", root).rows["train"]
    names = {rows[place].sample_id for place in chosen(rows, 0.1)}
    turned = list(reversed(rows))
    assert {turned[place].sample_id for place in chosen(turned, 0.1)} == names
    assert sorted(names) == [
        "00004",
        "00006",
        "00009",
        "00025",
        "00035",
        "00057",
        "00059",
    ]  # a published subset: never change it


def test_a_run_trains_on_the_subset_and_scores_everything(root, tmp_path):
    config, data = opened(root, tmp_path, "+data.options.labelled=0.3")
    _, whole = opened(root, tmp_path)
    rows = read_index("rrsisd", root).rows["train"]
    assert ids(data.splits["train"]) == [rows[place].sample_id for place in chosen(rows, 0.3)]
    assert [ids(data.splits[split]) for split in ("val", "test")] == [ids(whole.splits[s]) for s in ("val", "test")]
    assert (data.unlabelled, data.found, data.limit) == (41, whole.found, {})
    assert any("trained on 19 of 60 training samples" in note for note in data.notes)
    assert not any("trained on" in note for note in whole.notes)
    assert ids(open_splits(config.data, root)["train"]) == ids(data.splits["train"])
    with pytest.raises(IndexError):
        data.splits["train"][19]


def test_a_limit_counts_within_the_subset(root, tmp_path):
    _, data = opened(root, tmp_path, "+data.options.labelled=0.3", "limit.train=5")
    _, whole = opened(root, tmp_path, "+data.options.labelled=0.3")
    assert ids(data.splits["train"]) == ids(whole.splits["train"])[:5]
    assert data.limit == {"train": 5}


def test_the_share_is_part_of_the_row_s_identity_and_the_content_is_not_another(root, tmp_path):
    plain, whole = opened(root, tmp_path)
    found = {}
    for share in SHARES:
        config, data = opened(root, tmp_path, f"+data.options.labelled={share}")
        assert data.fingerprint == whole.fingerprint
        assert f"data.options.labelled={share}" in variant(config)
        found[share] = train_hash(config, data.fingerprint, model_version=1)
    assert len({*found.values(), train_hash(plain, whole.fingerprint, model_version=1)}) == 4


@pytest.mark.parametrize("share", ["0.2", "1", "true", "half"])
def test_another_share_is_refused(root, tmp_path, share):
    with pytest.raises(UserError, match=r"labelled=.* is not one of: 0\.1, 0\.3, 0\.5"):
        opened(root, tmp_path, f"+data.options.labelled={share}")


def test_every_format_names_the_option(root):
    with pytest.raises(UserError, match=r"Options of format 'rrsisd': labelled"):
        read_index("rrsisd", root, {"labeled": 0.1})
