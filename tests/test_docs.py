"""The site: what can be told of its pages without building them, and the parts that build it.

`make docs` builds it with warnings as errors, executes its examples, and checks what came out with the same functions.
"""

import json
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import gallery
import pytest

import cvxinv

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "docs" / "site"
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "decisions").glob("*.md"), ROOT / "README.md"])
EXAMPLES = sorted((ROOT / "docs" / "examples").rglob("*.py"))


def part(name: str) -> ModuleType:
    return gallery.load(SITE / f"{name}.py")


# --- pages ----------------------------------------------------------------------------------------


def test_every_page_of_docs_stands_in_a_list_of_the_first_page():
    build = part("build")
    front = build.front(build.everything())
    named = {re.sub(r"^.*<(.+)>$", r"\1", line.strip()) for line in front.splitlines()}
    for path in (ROOT / "docs").glob("*.md"):
        assert path.stem in named | {"index"}, f"docs/{path.name} is in no list of docs/index.md"


def test_a_page_that_the_lists_do_not_name_is_added_and_an_entry_without_page_left_out(monkeypatch, tmp_path):
    build = part("build")
    (tmp_path / "index.md").write_text("# First\n\n```{toctree}\nguide\nNothing <nothing>\nchecking\n```\n")
    for name in ("guide", "checking", "new"):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n")
    monkeypatch.setattr(build, "DOCS", tmp_path)
    lines = build.front(["docs/guide.md", "docs/checking.md", "docs/new.md"]).splitlines()
    assert "nothing" not in "\n".join(lines) and lines.count("guide") == 1
    assert lines.index("new") > lines.index("checking")


def test_a_page_that_comes_goes_or_changes_its_title_changes_what_stands_beside_all(monkeypatch, tmp_path):
    build = part("build")
    monkeypatch.setattr(build, "SOURCE", tmp_path)
    page, seen = tmp_path / "a.md", [build.contents()]
    for text in ("# A\n\nwords", "# A\n\nother words", "# B\n\nother words"):
        page.write_text(text)
        seen.append(build.contents())
    assert seen[1] == seen[2] and len(set(seen)) == 3


def test_every_link_of_a_page_leads_to_a_file():
    build = part("build")
    pages = build.everything()
    assert {"docs/guide.md", "docs/decisions/0001-vertical-layers.md", "CITATION.cff"} <= set(pages)
    assert "\nBenchmarks </benchmarks/README>\n" in build.measured(pages)  # each page that is cited has a heading


def test_a_link_to_nothing_is_refused(monkeypatch, tmp_path):
    build = part("build")
    monkeypatch.setattr(build, "ROOT", tmp_path)
    (tmp_path / "a.md").write_text("# A\n[b](b.md), [elsewhere](https://example.org), [here](#here)")
    with pytest.raises(ValueError, match=r"a\.md links to 'b\.md'"):
        build.linked("a.md")
    (tmp_path / "b.md").write_text("# B\n")
    assert build.linked("a.md") == ["b.md"]


def test_pictures_of_pages_say_what_they_show():
    found = 0
    for path in PAGES:
        for words, source in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", path.read_text()):
            found += 1
            assert len(words) >= 15, f"{path.name}: say in the alternative text what {source} shows, got {words!r}"
    assert found >= 8


def test_tables_of_the_page_of_methods_are_those_of_the_results():
    made = part("tabulated")
    every = made.experiments().splitlines()
    records = {path.stem: json.loads(path.read_text()) for path in made.EXPERIMENTS.glob("*.json")}
    assert len(every) == len(records) + 2
    for name, record in records.items():
        (line,) = [line for line in every if f"/{name}.md" in line]
        held = [claim["held"] for claim in record["claims"]]
        assert f"| {held.count(True)} of {len(held)} |" in line and (False in held) == (not line.endswith("| none |"))
    first, again = (json.loads((made.RESULTS / f"{name}.json").read_text())["tables"] for name in made.COMPARED)
    newest = {(one["generator"], one["setting"]): one["best"] for one in (*first, *again)}
    pages = made.compared().split("**")
    shown = dict(zip(pages[1::2], pages[2::2], strict=True))
    assert {name for name, _ in newest} == shown.keys() and len(newest) == len(first)
    for (name, setting), best in newest.items():
        assert f"| {setting} | {best} |" in shown[name]
    few = next(row for row in records["information_limit"]["rows"] if row["method"] == "hybrid" and row["m"] == 22)
    assert f"{few['recovered']:.0%}" in made.limits("information_limit").splitlines()[2].split("|")[3]


def test_what_each_method_takes_is_tried():
    lines = {line.split("|")[1].strip(" `"): line for line in part("tabulated").taken().splitlines()[2:]}
    assert lines.keys() == cvxinv.METHODS.keys() and lines["hybrid"].count("yes") == 9
    assert lines["deep_phase_retrieval"].startswith("| `deep_phase_retrieval` | no | no | yes | yes |")
    assert all(words in line for words, line in {"no | yes": lines["plugin"], "yes | no": lines["oracle"]}.items())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_figure_of_an_example_has_words_axes_and_a_check(path: Path):
    text = path.read_text()
    figures = len(re.findall(r"plt\.(?:subplots|figure)\(", text))
    assert 1 <= figures <= text.count(".set_label("), "give each figure its words: fig.set_label('...')"
    assert "assert " in text, "an example ends with a claim that the build checks"
    assert "set_xlabel" in text or "set_axis_off" in text


# --- what was built -------------------------------------------------------------------------------

CLEAN = '<html><body><h1 id="top">A</h1><a href="b.html#there">b</a><img src="a.png" alt="a line"></body></html>'
PLANTED = {
    "no such file": ('<a href="c.html">c</a>', "link to c.html, which is not there"),
    "no such anchor": ('<a href="b.html#away">c</a>', "link to b.html#away, where there is no such place"),
    "no words": ('<img src="a.png">', "a.png has no alternative text"),
    "empty words": ('<img src="a.png" alt=" ">', "a.png has no alternative text"),
    "script": ('<script src="https://cdn.example/x.js"></script>', "loads https://cdn.example/x.js"),
    "style": ('<link rel="stylesheet" href="//cdn.example/x.css">', "loads //cdn.example/x.css"),
    "font": ("<style>@import 'https://fonts.example/x';</style>", "loads @import"),
    "drawing without words": ('<svg role="img"></svg>', "svg has no alternative text"),
}


def folder_with(tmp_path: Path, more: str) -> Path:
    (tmp_path / "a.html").write_text(CLEAN.replace("</body>", f"{more}</body>"))
    (tmp_path / "b.html").write_text('<p id="there">b</p><svg role="img" aria-label="a map"></svg>')
    return tmp_path


def test_sound_pages_have_no_faults(tmp_path: Path):
    assert part("built").faults(folder_with(tmp_path, '<a href="https://example.org">x</a>')) == []


@pytest.mark.parametrize("fault", PLANTED)
def test_a_fault_of_a_page_is_seen(tmp_path: Path, fault: str):
    planted, said = PLANTED[fault]
    found = part("built").faults(folder_with(tmp_path, planted))
    assert len(found) == 1 and found[0].startswith("a.html: ") and said in found[0]


def test_a_page_without_picture_and_a_style_from_elsewhere_are_seen(tmp_path: Path):
    folder_with(tmp_path, "")
    (tmp_path / "c.html").write_text("<p>c</p>")
    (tmp_path / "s.css").write_text("@font-face { src: url('https://fonts.example/x.woff2') }")
    assert [line.split(":")[0] for line in part("built").faults(tmp_path)] == ["c.html", "s.css"]


def test_the_site_that_was_built_here_has_no_faults():
    html = ROOT / "docs" / "_build" / "html"
    if not (html / "index.html").exists():
        pytest.skip("the site is not built here: make docs")
    assert part("built").faults(html) == []


# --- docstrings -----------------------------------------------------------------------------------


def test_prose_becomes_rest():
    prose = part("prose_docstrings")
    lines = [
        "The l1 norm |h|_1 of `h`, see `Rows`.",
        "",
        "    minimise |h|_1",
        "      subject to h >= 0",
        "",
        "rows: see",
        "`Rows`. lam_k: a*b.",
    ]
    assert prose.as_rest(lines, {"rows", "lam_k"}) == [
        r"The l1 norm \|h\|\_1 of \ ``h``\ , see \ :py:obj:`~cvxinv.Rows`\ .",
        "",
        "..",
        "",
        ".. code-block:: text",
        "",
        "    minimise |h|_1",
        "      subject to h >= 0",
        "",
        r"* **rows**: see \ :py:obj:`~cvxinv.Rows`\ .",
        "",
        r"* **lam\_k**: a\*b.",
        "",
    ]


def test_bold_words_stay_bold_and_stars_stay_stars():
    text = "**Enough.** d = h_1 at most, **options, a**b. *Near*: A * B * C."
    told = r"**Enough.** d = h\_1 at most, \*\*options, a\*\*b. *Near*: A \* B \* C."
    assert part("prose_docstrings").as_rest([text]) == [told, ""]


def test_words_before_a_colon_that_are_no_parameters_stay_prose():
    assert part("prose_docstrings").as_rest(["Source: a paper. lam: a weight; eps: a bound."], {"lam", "eps"}) == [
        "Source: a paper.",
        "",
        "* **lam**: a weight",
        "",
        "* **eps**: a bound.",
        "",
    ]


def test_everything_public_stands_in_the_reference_once():
    text = "\n".join(part("reference").reference_pages().values())
    for name in cvxinv.__all__:
        directives = re.findall(rf"^\.\. (?:autoclass|autofunction):: cvxinv\.{name}$|^\.\. py:data:: {name}$", text, re.M)
        assert len(directives) == 1, f"{name}: {len(directives)} times"


def test_a_room_without_group_is_named():
    with pytest.raises(ValueError, match=r"cvxinv\.cellar\.wine is in no group"):
        part("reference").group_of("cellar.wine")


# --- formulas, maps, figures ----------------------------------------------------------------------


def site_part(name: str, needs: str) -> ModuleType:
    pytest.importorskip(needs, reason=f"{needs} is not installed: pip install -e '.[docs]'")
    sys.path.insert(0, str(SITE))
    try:
        return part(name)
    finally:
        sys.path.remove(str(SITE))


def test_a_formula_is_mathml():
    convert = site_part("build_time_maths", "latex2mathml").convert
    assert "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac>" in convert(r"\frac{1}{2}")


def test_the_map_marks_the_rooms_that_a_page_speaks_of():
    house_map = site_part("house_map", "docutils")
    assert house_map.spoken_of("a solver, another solver, its iterations; a proof") == ["solvers", "exact"]
    drawn = house_map.drawing(["solvers"])
    assert drawn.count("room marked") == 1 and "✓ solvers" in drawn and "speaks of them: solvers." in drawn


def test_a_decision_tree_has_a_box_for_each_question_and_a_link_for_each_answer():
    tree = site_part("decision_tree", "sphinx")
    listed = tree.branches(["wet? | take an umbrella & go | rain", "", "dry? | go | sun"])
    assert listed == [("wet?", "take an umbrella & go", "rain"), ("dry?", "go", "sun")]
    drawn = tree.drawing("Two questions", listed)
    assert drawn.count("<rect") == 4 and drawn.count(">no<") == 1 and drawn.count(">yes<") == 2
    assert 'href="#rain"' in drawn and "umbrella &amp; go" in drawn and 'aria-label="Two questions"' in drawn
    with pytest.raises(ValueError, match=r"expected 'question \| what to do \| anchor'"):
        tree.branches(["wet? | take an umbrella"])


def test_every_answer_of_the_tree_of_statuses_leads_to_a_part_of_its_page():
    text = (ROOT / "docs" / "your_own_vae.md").read_text()
    trees = re.findall(r"^```\{decision-tree\}\n.*?\n(.*?)^```", text, re.M | re.S)
    lines = [line for tree in trees for line in tree.splitlines()]
    places = set(re.findall(r"^\(([\w-]+)\)=$", text, re.M)) | {"all-is-well"}
    assert {line.split("|")[2].strip() for line in lines} == places and "## All is well" in text
    for status in cvxinv.inversion.verify.INVERSION_STATUSES + cvxinv.layers.core.certificate.LAYER_STATUSES[3:4]:
        assert any(status in line.split("|")[0] for line in lines), f"the tree does not ask for {status}"


def test_every_page_of_results_has_a_picture_of_its_own():
    build, pictures = part("build"), site_part("page_pictures", "matplotlib")
    results = [page for page in build.everything() if page.endswith(".md") and "results/" in page]
    shown = {page for page in results if build.HAS_PICTURE.search((ROOT / page).read_text()) or pictures.has_picture(page)}
    assert len(results) > 20 and set(results) == shown, f"add {set(results) - shown} to docs/site/page_pictures.py"
    assert all((ROOT / page).is_file() for page in [*pictures.DRAWN, *pictures.JSON])


def test_pictures_of_results_are_drawn_with_words():
    pictures = site_part("page_pictures", "matplotlib")
    for page in [*pictures.DRAWN, *pictures.JSON, *pictures.OWN]:
        words, content = pictures.picture(page)
        assert len(words) >= 50 and content.startswith(b"\x89PNG") and len(content) > 10_000, page
    assert pictures.picture("docs/format.md") is None
    words, _ = pictures.picture("problems/sparse/results/morphing.md")
    assert words.startswith("five rows of frames between two samples"), "the words of the page that shows it"


def test_a_picture_stands_below_the_title_of_a_page_that_has_none(monkeypatch, tmp_path):
    build = part("build")
    monkeypatch.setattr(build, "SOURCE", tmp_path)
    sys.modules["page_pictures"] = site_part("page_pictures", "matplotlib")
    try:
        text = build.with_picture("docs/checking.md", "# Title\n\nWords.\n")
        assert text.startswith("# Title\n\n![Certificates with") and text.endswith("(/drawn/docs-checking.png)\n\nWords.\n")
        assert (tmp_path / "drawn" / "docs-checking.png").exists()
        shown = "# Title\n\n![a line](a.png)\n"
        assert build.with_picture("docs/checking.md", shown) == shown
        assert build.with_picture("docs/format.md", "# Title\n") == "# Title\n"
    finally:
        del sys.modules["page_pictures"]


def test_a_picture_leads_to_itself_unless_it_leads_elsewhere():
    linked = site_part("whole_pictures", "sphinx").linked
    assert linked('<p><img alt="a" src="x.png" /></p>') == (
        '<p><a class="whole-picture" href="x.png"><img alt="a" src="x.png" /></a></p>'
    )
    for same in ('<a href="b.html"><img src="x.png"></a>', '<img src="x_thumb.png">'):
        assert linked(same) == same


def test_words_of_a_drawing_stay_in_their_boxes():
    """In DejaVu Sans, the widest of the fonts that a browser takes where it has no other."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    def wide(words: str, size: float, weight: str = "normal") -> float:
        return TextPath((0, 0), words, size=size, prop=FontProperties(family="DejaVu Sans", weight=weight)).get_extents().x1

    house_map, tree = site_part("house_map", "docutils"), site_part("decision_tree", "sphinx")
    for room, does, *_ in house_map.ROOMS:
        assert wide(f"✓ {room}", 14, "bold") < house_map.WIDE - 10 and wide(does, 12) < house_map.WIDE - 10, room
    text = (ROOT / "docs" / "your_own_vae.md").read_text()
    for block in re.findall(r"^```\{decision-tree\}\n.*?\n(.*?)^```", text, re.M | re.S):
        for question, answer, _ in tree.branches(block.splitlines()):
            for words, weight in ((question, "bold"), (answer, "normal")):
                for line in textwrap.wrap(words, tree.LETTERS):
                    assert wide(line, 13.5, weight) < tree.WIDE - 12, line


def test_the_index_and_the_search_get_the_map_once(monkeypatch, tmp_path):
    build = part("build")
    monkeypatch.setattr(build, "HTML", tmp_path)
    sys.modules["house_map"] = site_part("house_map", "docutils")
    try:
        (tmp_path / "genindex.html").write_text('<h1 id="index">Index</h1>')
        (tmp_path / "search.html").write_text('<div id="search-results"></div>')
        for _ in range(2):
            build.add_maps()
            for name in ("genindex.html", "search.html"):
                assert len(part("built").Page((tmp_path / name).read_text()).pictures) == 1, name
    finally:
        del sys.modules["house_map"]


def test_a_figure_without_words_is_refused():
    from matplotlib.figure import Figure

    figures, figure = part("figures"), Figure()
    with pytest.raises(ValueError, match="say what it shows"):
        figures.words_of(figure)
    figure.set_label("a line that\n falls from 1 to 0")
    assert figures.words_of(figure) == "a line that falls from 1 to 0"


def test_a_block_that_runs_shares_names_with_the_next_and_tells_its_line():
    execute = site_part("running_blocks", "sphinx").execute
    namespace: dict[str, object] = {}
    assert execute("a = 2", namespace, "page.md", 3) == ""
    assert execute("print(a + 1)", namespace, "page.md", 5) == "3\n"
    with pytest.raises(ZeroDivisionError) as raised:
        execute("\na / 0", namespace, "page.md", 10)
    assert raised.traceback[-1].lineno + 1 == 12
