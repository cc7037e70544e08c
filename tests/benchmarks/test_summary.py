from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from _page import BEGIN, END, plot_of, results_page
from cells import FAITHFUL
from summary import found_in, search_cost, summarise

from .conftest import document, ends


def found(*documents):
    return found_in(documents, replicates=100)


def two_setups():
    """Methods that are 2 and 1.25 times faster than uniform on two set-ups, at equal accuracy."""
    documents = []
    for setup, budgets in (("one", (0.5, 0.25)), ("two", (0.6,))):
        documents += ends(seeds=range(3), setup=setup)
        for ratio in budgets:
            accuracy = 0.3 + ratio
            for method, faster in (("uniform", 1.0), ("one-shot", 2.0), ("netadapt", 1.25)):
                told = (method, f"{ratio:.0%}", ratio / faster, accuracy)
                documents += [document(*told, setup=setup, seed=seed) for seed in range(3)]
    return documents


def test_the_product_s_best_method_is_told_against_each_baseline():
    summary = summarise(found(*two_setups()))
    assert summary["method"] == "one-shot"
    faster = summary["speedup_at_equal_accuracy"]
    assert faster["uniform"] == pytest.approx({"median": 2, "low": 2, "high": 2, "inside": 1})
    assert faster["from-scratch"] is None
    assert faster["per_setup"]["one on some-cpu"]["uniform"]["budgets"]["25%"]["median"] == pytest.approx(2)
    assert faster["per_setup"]["two on some-cpu"]["uniform"]["seeds"] == [0, 1, 2]
    assert faster["per_setup"]["two on some-cpu"]["from-scratch"] is None
    netadapt = summary["comparisons"]["netadapt against uniform"]
    assert netadapt["speedup_at_equal_accuracy"]["median"] == pytest.approx(1.25)
    assert summary["comparisons"]["netadapt against netadapt-macs"]["speedup_at_equal_accuracy"] is None
    assert summary["seeds"] == [0, 1, 2]
    assert summary["behind_uniform"] == []


def test_gains_are_in_points_and_the_median_is_over_set_ups_and_budgets():
    documents = []
    for setup, lift in (("one", 0.01), ("two", 0.05), ("three", 0.02)):
        documents += [
            document("uniform", "50%", 0.5, 0.7, setup=setup),
            document("netadapt", "50%", 0.5, 0.7 + lift, setup=setup),
        ]
    gain = summarise(found(*documents))["accuracy_gain_at_equal_latency"]
    assert gain["uniform"]["median"] == pytest.approx(2)
    assert gain["per_setup"]["two on some-cpu"]["uniform"]["median"] == pytest.approx(5)


def test_above_the_accuracy_of_the_original_the_gain_alone_decides_which_method_is_best():
    accuracies = (("uniform", 0.93), ("netadapt", 0.94), ("one-shot", 0.95))
    summary = summarise(found(*(document(method, "70%", 0.7, accuracy) for method, accuracy in accuracies)))
    assert summary["method"] == "one-shot"
    assert summary["speedup_at_equal_accuracy"]["uniform"] is None
    assert summary["accuracy_gain_at_equal_latency"]["uniform"]["median"] == pytest.approx(2)


def test_a_budget_where_uniform_is_better_is_named():
    documents = [
        document("uniform", "50%", 0.5, 0.8), document("netadapt", "50%", 0.5, 0.7),
        document("uniform", "25%", 0.25, 0.5), document("netadapt", "25%", 0.25, 0.5),
    ]  # fmt: skip
    assert summarise(found(*documents))["behind_uniform"] == ["one on some-cpu at 50%"]


def test_without_any_result_everything_is_null():
    summary = summarise(found())
    assert summary["speedup_at_equal_accuracy"] == {"uniform": None, "from-scratch": None, "per_setup": {}}
    assert summary["search_cost_ratio"] is None
    assert summary["search_images_faithful"] is None
    json.dumps(summary, allow_nan=False)


def test_a_refused_budget_is_told_and_counts_nowhere():
    refused = document("uniform", "25%", 0.25, 0.5) | {"failure": "too near the floor"}
    summary = summarise(found(refused, document("netadapt", "25%", 0.25, 0.5)))
    assert summary["failures"] == {"uniform 25% 0 on some-cpu": "too near the floor"}
    assert summary["speedup_at_equal_accuracy"]["uniform"] is None


def costs(seeds=(0, 1, 2), fast=0.7975):
    """Faithful searches whose accuracy is level from the second length on, and two fast ones."""
    told = [(FAITHFUL[0], 0.78, 10_000, 600), (FAITHFUL[1], 0.8, 30_000, 600), (FAITHFUL[2], 0.8025, 90_000, 600)]
    told += [("one-shot", fast, 0, 3000), ("netadapt", 0.8025, 5000, 3000)]
    return [
        document(method, "50%", 0.5, accuracy, seed=seed, search_images=trained, forward_images=seen)
        for method, accuracy, trained, seen in told
        for seed in seeds
    ]


def test_the_search_cost_is_that_of_the_shortest_tuning_on_the_plateau_against_the_cheapest_as_accurate():
    cost = search_cost(found(*costs()).setups)
    assert (cost["search_images_faithful"], cost["search_images_fast"]) == (30_200, 1000)
    assert cost["search_cost_ratio"] == pytest.approx(30.2)
    assert cost["search_cost_of"] == [f"one on some-cpu at 50%: {FAITHFUL[1]} against one-shot"]


def test_a_cheaper_method_that_is_less_accurate_does_not_count():
    assert search_cost(found(*costs(fast=0.79)).setups)["search_images_fast"] == 6000


def test_a_search_cost_needs_three_seeds_and_all_lengths():
    assert search_cost(found(*costs(seeds=(0, 1))).setups)["search_cost_ratio"] is None
    without = [one for one in costs() if one["cell"]["method"] != FAITHFUL[2]]
    assert search_cost(found(*without).setups)["search_cost_ratio"] is None


def test_the_order_of_the_files_does_not_matter():
    assert summarise(found(*reversed(two_setups()))) == summarise(found(*two_setups()))


def test_the_page_keeps_what_people_wrote():
    several = found(*two_setups())
    page = f"# Results\n\nBefore.\n{BEGIN}\nold\n{END}\nAfter.\n"
    renewed = results_page(page, several.setups, summarise(several))
    assert renewed.startswith("# Results\n\nBefore.\n")
    assert renewed.endswith(f"{END}\nAfter.\n")
    assert "old" not in renewed
    assert "| 50% | one-shot | 25.0 ± 0.2 | 80.0 (" in renewed
    assert "images/frontier_two_on_some-cpu.svg" in renewed
    assert results_page(renewed, several.setups, summarise(several)) == renewed


def test_the_page_says_how_many_replicates_were_inside_and_what_the_baselines_are():
    several = found(
        document("netadapt", "50%", 0.5, np.random.default_rng(1).random(400) < 0.8),
        document("uniform", "50%", 0.5, np.random.default_rng(2).random(400) < 0.6),
        *ends(0.83),
    )
    page = results_page(None, several.setups, summarise(several))
    assert re.search(r"\| netadapt against uniform \| \d\.\d\dx \([^)]*\), \d\d % inside \| [^%|]* \|\n", page)
    assert "from-scratch sees far less data" in page
    assert "| 100% | tuned-original | 100.0 ± 1.0 | 83.0 (" in page


def test_the_page_says_which_aims_are_met_and_which_are_missed():
    several = found(*two_setups())
    page = results_page(None, several.setups, summarise(several))
    assert "| times faster than `uniform` at equal accuracy | 1.4x | 2.00x (2.00 to 2.00) | met |" in page
    assert "| times faster than `from-scratch` at equal accuracy | 1.7x | - |  |" in page
    assert "| behind `uniform` by more than the interval | nowhere | nowhere | met |" in page
    weak = found(document("uniform", "50%", 0.5, 0.7), document("netadapt", "50%", 0.5, 0.6))
    page = results_page(None, weak.setups, summarise(weak))
    assert "| points over `uniform` at equal latency | 3 | -10.00 (" in page
    assert "| nowhere | one on some-cpu at 50% | **missed** |" in page


def test_a_new_page_says_that_nothing_was_measured():
    page = results_page(None, (), summarise(found()))
    assert page.count("Nothing has been measured yet") == 1


def test_a_page_without_its_markers_is_refused():
    with pytest.raises(ValueError, match="must have these two lines once"):
        results_page("# Results\n", (), summarise(found()))


def test_the_plot_is_an_image_with_every_network():
    (setup,) = found(*(one for one in two_setups() if one["cell"]["setup"] == "one")).setups
    root = ElementTree.fromstring(plot_of(setup))
    assert root.tag.endswith("svg")
    told = [element.text or "" for element in root.iter() if element.tag.endswith("title")]
    assert len(told) == 1 + 3 * 2 + 2  # the plot's own, two networks on each of three curves, start and tuned original
    assert sum("100 % of the latency" in text for text in told) == 2
    assert any(text.startswith("one-shot: 12.5 % of the latency") for text in told)


def test_networks_are_compared_only_with_those_of_the_same_kind_of_processor():
    uniform = document("uniform", "50%", 0.5, 0.7, processor="Wide CPU")
    apart = summarise(found(uniform, document("netadapt", "50%", 0.5, 0.8, processor="Narrow CPU")))
    assert apart["accuracy_gain_at_equal_latency"]["uniform"] is None
    beside = summarise(found(uniform, document("netadapt", "50%", 0.5, 0.8, processor="Wide CPU")))
    assert set(beside["accuracy_gain_at_equal_latency"]["per_setup"]) == {"one on wide-cpu"}
    assert beside["accuracy_gain_at_equal_latency"]["uniform"]["median"] == pytest.approx(10)
