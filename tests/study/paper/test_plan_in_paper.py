"""The plan in the paper: its numbers where a scale has one, and nothing for the others."""

from hylorada.study.paper.registered import plan_float
from hylorada.study.plan.registered import read_plan
from hylorada.study.plan.scales import load_settings
from hylorada.study.plan.studies import STUDIES


def test_a_scale_without_a_plan_has_no_table_of_one():
    assert plan_float(load_settings("micro")) == ""


def test_the_table_of_the_plan_has_a_line_a_study_with_what_it_finds():
    told, registered = plan_float(load_settings("full")), read_plan()
    lines = told.split("\\midrule\n")[1].split("\\bottomrule")[0].splitlines()
    planned = [STUDIES[one.study].title + "*" * (one.family in registered.primary) for one in registered.studies]
    assert [line.split(" & ")[0] for line in lines] == planned
    (ablation,) = (line for line in lines if line.startswith("The six stages*"))
    assert ablation.startswith("The six stages* & 5 & 5 & 128 & 512 & 26 & 0.10 & measured & ")
    assert "of 80\\,\\%" in told and "0.5\\,\\% and 1.0\\,\\%" in told
