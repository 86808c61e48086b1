import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from report_samples import arena, drawn_scores, thumbnails

from gradood.errors import ConfigError, DataError
from gradood.report import Report

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'<!--"


class Parsed(HTMLParser):
    """Tags with their attributes, and the text of the data element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data = ""
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag == "script" and dict(attrs).get("id") == "data"

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        self.data += data if self._inside else ""


@pytest.fixture(scope="module")
def scores():
    return drawn_scores()


@pytest.fixture(scope="module")
def record(scores):
    return arena(scores)


def test_the_page_holds_its_twin_and_refers_to_nothing_outside(record, scores):
    made = Report.of(record, scores, thumbnails)
    page = Parsed(made.html())
    embedded = json.loads(page.data)
    assert embedded.pop("pictures")["shown"] == 8
    assert embedded == json.loads(json.dumps(made.to_dict()))
    assert {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "base"} == set()
    for _, attributes in page.tags:
        assert "src" not in attributes
        assert "style" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
        assert not [name for name in attributes if name.startswith("on")]
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    style = made.html().split("<style>")[1].split("</style>")[0]
    assert not re.search(r"url\(|@import", style)


def test_hostile_names_stay_text(scores):
    sets = [(HOSTILE, "near"), ("svhn", "far")]
    methods = (HOSTILE, "__proto__", "items")
    hostile = drawn_scores(runs=(HOSTILE,), sets=sets, methods=methods)
    record = arena(hostile, sets, command=HOSTILE)
    record["runs"][0]["methods"]["items"]["caveats"] = [HOSTILE]
    page = Parsed(Report.of(record, hostile).html())
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "img" not in [tag for tag, _ in page.tags]
    assert json.loads(page.data)["sets"][0]["name"] == HOSTILE
    assert list(json.loads(page.data)["runs"][0]["board"]) == list(methods)


def test_half_a_character_in_a_name_is_no_reason_to_fail(tmp_path, scores, record):
    target = tmp_path / "page.html"
    twin = Report.of({**record, "command": "bench caf\udce9"}, scores).write(target)
    assert "bench caf" in target.read_text(encoding="utf-8")
    assert json.loads(twin.read_text(encoding="utf-8"))["command"].startswith("bench caf")


def test_the_leaderboard_is_there_without_a_script(record, scores):
    html = Report.of(record, scores).html()
    body = html.split("<tbody>")[1].split("</tbody>")[0]
    names = re.findall(r'<th scope="row">([\w-]+)', body)
    means = {m["method"]: m["auroc"] for m in record["runs"][0]["means"] if m["group"] == "all"}
    assert names == sorted(means, key=lambda name: -means[name])
    assert all(f"{100 * value:.1f}" in body for value in means.values())


def test_where_room_is_short_images_go_first_then_curves_then_it_is_refused(record, scores):
    whole = Report.of(record, scores, thumbnails)
    size = len(whole.html().encode())
    assert whole.content["notes"] == []
    bare = len(Report.of(record, scores).html().encode())
    steps = [size - 1, bare + 1_200, bare - 5_000, bare - 30_000]
    found = [Report.of(record, scores, thumbnails, limit=limit) for limit in steps]
    for made, limit in zip(found, steps, strict=True):
        assert len(made.html().encode()) <= limit
        assert made.content["notes"]
    assert found[0].sheets is not None
    assert found[0].sheets.shown < 8
    assert found[1].sheets is None
    assert found[1].content["runs"][0]["curves"] == whole.content["runs"][0]["curves"]
    assert "at most 100 points" in found[2].content["notes"][0]
    assert found[3].content["runs"][0]["curves"] == {}
    with pytest.raises(ConfigError, match=r"and at most 20,000 are allowed"):
        Report.of(record, scores, limit=20_000)


def test_without_scores_there_is_still_a_leaderboard(record):
    made = Report.of(record, {})
    assert made.content["runs"][0]["curves"] == {}
    assert made.content["runs"][0]["agreement"] is None
    assert "No scores were given of resnet20#0" in made.content["notes"][0]


def test_the_board_has_the_records_figures(record, scores):
    run = Report.of(record, scores).to_dict()["runs"][0]
    for row in record["runs"][0]["rows"]:
        shown = run["board"][row["method"]]["sets"][row["ood"]]["fpr_id_at_tpr_ood95"]
        told = [row["fpr_id_at_tpr_ood95"], *row["intervals"]["fpr_id_at_tpr_ood95"]]
        assert shown == pytest.approx(told, abs=6e-6)
    versus = run["versus"]["fpr_ood_at_tpr_id95"]["all"]
    lowest = min(
        (m for m in record["runs"][0]["means"] if m["group"] == "all"),
        key=lambda m: m["fpr_ood_at_tpr_id95"],
    )
    assert versus["best"] == lowest["method"]
    # Those of a pair that the record has the other way round too.
    assert len(versus["others"]) == len(record["runs"][0]["methods"]) - 1
    assert all(pair["difference"] > 0 for pair in versus["others"].values())
    assert all(
        pair["low"] < pair["difference"] < pair["high"] for pair in versus["others"].values()
    )


def test_numbers_that_json_lacks_are_no_figures(record, scores):
    changed = json.loads(json.dumps(record))
    changed["runs"][0]["cost"]["knn"]["time_ratio"] = "inf"
    changed["runs"][0]["methods"]["knn"]["options"] = {"order": "inf", "clip": None}
    made = Report.of(changed, scores)
    assert made.content["runs"][0]["board"]["knn"]["cost"]["time_ratio"] is None
    assert made.content["runs"][0]["methods"]["knn"]["options"] == "order=inf, clip=none"
    made.html()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "x"}, r"format 'x', version 1\); expected 'gradood-arena', version 1"),
        ({"version": 2}, r"version 2\); expected"),
        ({"runs": []}, r"runs is \[\]; expected a list that is not empty"),
        ({"runs": None}, r"runs is None; expected a list that is not empty"),
        ({"suite": {}}, r"suite lacks name, version, id, ood"),
    ],
)
def test_what_is_no_record_is_refused(record, scores, change, message):
    with pytest.raises(DataError, match=message):
        Report.of({**record, **change}, scores)


def test_scores_that_cannot_be_used_are_refused(record, scores):
    def changed(name, values):
        run = scores["resnet20#0"]
        return {"resnet20#0": {**run, name: {**run[name], "knn": values}}}

    with pytest.raises(DataError, match=r"'knn' on set 'svhn' of run 'resnet20#0' hold NaN"):
        Report.of(record, changed("svhn", np.full(400, np.nan)))
    with pytest.raises(DataError, match=r"have shapes"):
        Report.of(record, changed("svhn", np.zeros(3)))
    without = {name: given for name, given in scores["resnet20#0"].items() if name != "id"}
    with pytest.raises(DataError, match=r"has no scores of set 'id'"):
        Report.of(record, {"resnet20#0": without})


def test_a_page_is_written_as_a_whole_with_its_twin(tmp_path, record, scores):
    made = Report.of(record, scores)
    twin = made.write(tmp_path / "page.html")
    assert twin == tmp_path / "page.json"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "page.json"]
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == made.html()
    with pytest.raises(ConfigError, match=r"expected a name ending in \.html"):
        made.write(tmp_path / "page.pdf")
