"""The benchmark's clockwork: the judge, the peers' adapters, the yardstick and the tables. No test here is about speed."""

import json
from dataclasses import replace
from pathlib import Path

import growth
import layers
import pytest
import torch
import wide
from contest import Row, point_of, solve_peer
from layer_cases import Case, cases
from measuring import Seconds, Verdict, flops, judge, kkt, plain
from peers import PEERS, AbstractPeer, missing
from peers.base import kinds_of
from pictures import profile_ratios
from scripts import call_script, run_script
from tables import Target, case_table, ratio_table, targets

import cvxinv as ci

ROOT = Path(__file__).parent.parent
RATES = {"float64": 1e10, "float32": 2e10}
QUICK = {case.label: case for case in cases(True)}


# --- peers ----------------------------------------------------------------------------------------


def test_every_kind_of_problem_has_a_quick_case():
    kinds = [kinds_of(case.make(torch.arange(1))) for case in QUICK.values()]
    assert {"lasso", "quadratic"} in kinds and {"quadratic"} in kinds and {"ball"} in kinds and {"interval"} in kinds


@pytest.mark.parametrize("peer", PEERS, ids=[p.name for p in PEERS])
def test_a_peer_is_certified_on_every_case_it_serves(peer: type[AbstractPeer]):
    absent = missing(peer, gpl=False)
    if absent:
        pytest.skip(f"{peer.name}: {absent}")
    served = [case for case in QUICK.values() if kinds_of(case.make(torch.arange(1))) & set(peer.kinds)]
    assert served, f"no quick case is of a kind that {peer.name} serves"
    for case in served:
        assert certified(case, peer), f"{peer.name} is not certified on {case.label} at any tolerance of its ladder"


def certified(case: Case, peer: type[AbstractPeer]) -> bool:
    for tol in peer.ladder:
        problem, answers, _, spent = solve_peer(case, 2, peer, tol)
        assert spent.process >= 0 and len(answers) == 2
        if judge(problem, *point_of(problem, answers)).failures == 0:
            return True
    return False


def test_extra_bench_holds_no_gpl():
    import configparser

    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extra = config["options.extras_require"]["bench"]
    gpl = {p.package for p in PEERS if p.licence.startswith("GPL")}
    assert gpl == {"spams", "ecos"}
    assert not [name for name in gpl if name in extra]


def test_gpl_peers_run_only_when_asked_for():
    for peer in PEERS:
        assert not peer.licence.startswith("GPL") or "--gpl" in str(missing(peer, gpl=False))


# --- the judge ------------------------------------------------------------------------------------


def small_lasso() -> tuple[ci.NonnegativeLasso, torch.Tensor, torch.Tensor]:
    """W = I, y = (2, -1), lam = 1/2: h = (2 - 1/2, 0) and p = h - y = (-1/2, 1), which is feasible as W'p + 1/2 >= 0."""
    W = ci.Dense(torch.eye(2, dtype=torch.float64))
    y = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    problem = ci.NonnegativeLasso(
        ci.Rows(W, torch.zeros(2, dtype=torch.float64), y, torch.ones(1, 2, dtype=torch.bool)), 0.5
    )
    return problem, torch.tensor([[1.5, 0.0]], dtype=torch.float64), torch.tensor([[-0.5, 1.0]], dtype=torch.float64)


def test_kkt_residual_is_zero_at_the_optimum_alone():
    problem, h, p = small_lasso()
    assert float(kkt(problem, h, p)) < 1e-15
    assert float(kkt(problem, h + 0.1, p)) > 1e-3
    assert float(kkt(problem, h, p + 0.1)) > 1e-3


def test_judge_counts_what_is_wrong_missing_or_not_finite():
    case = QUICK["LASSO 49x24, gaussian, B=4"]
    problem = case.make()
    solution = ci.solve(problem)
    assert judge(problem, solution.h, solution.p).failures == 0
    wrong = solution.h.clone()
    wrong[0] *= 1.01
    wrong[1] = torch.nan
    verdict = judge(problem, wrong, solution.p)
    assert verdict.failures == 2 and verdict.gap == float("inf")
    assert judge(problem, torch.zeros_like(wrong), None).failures == 4


def test_judge_builds_a_p_where_the_given_one_proves_nothing():
    problem = QUICK["LASSO 49x24, gaussian, B=4"].make()
    solution = ci.solve(problem)
    assert judge(problem, solution.h, torch.zeros_like(solution.p)).failures == 0


def test_no_run_inherits_a_cache():
    case = QUICK["LASSO 49x24, gaussian, B=4"]
    first, second = case.make(), case.make()
    assert first.rows.W is not second.rows.W
    assert torch.equal(first.rows.W.matrix(), second.rows.W.matrix()) and torch.equal(first.rows.y, second.rows.y)


# --- the yardstick --------------------------------------------------------------------------------


def test_operations_of_products_and_factors_are_counted():
    A = torch.eye(12, dtype=torch.float64)
    assert flops(lambda: A[:4] @ A) == 2 * 4 * 12 * 12
    assert flops(lambda: torch.linalg.cholesky_ex(A.expand(3, 12, 12).clone())) == 3 * 12**3 // 3
    assert flops(lambda: torch.cholesky_solve(A[:, :5], A)) == 2 * 12**2 * 5
    assert flops(lambda: A @ A[0]) == 2 * 12 * 12


def test_json_holds_no_number_that_json_has_not():
    assert json.loads(json.dumps(plain({"gap": float("inf"), "s": (0.123456789,)}), allow_nan=False)) == {
        "gap": "inf", "s": [0.123457],
    }  # fmt: skip


# --- tables and pictures --------------------------------------------------------------------------

LABEL = "ReLU rows 392x128, power law, B=64"


def row(solver: str, seconds: float, failures: int = 0, **more) -> Row:
    kind = "ours" if solver == "auto" else "peer"
    verdict = Verdict(64, failures, 1e-9, 0.0, 1e-8)
    return replace(Row(LABEL, solver, kind, signals=64, run=64, seconds=Seconds(seconds, seconds), verdict=verdict), **more)


def verdict_of(*rows: Row, name: str = "1x") -> tuple[str, ...]:
    return next(r for r in ratio_table(list(rows), "cpu", RATES).rows if name in r)


def test_a_target_is_met_or_missed_by_the_ratio_of_times():
    assert verdict_of(row("auto", 1.0), row("DAQP", 1.5))[-3:] == ("1.50x", "1x", "met")
    assert verdict_of(row("auto", 2.0), row("DAQP", 1.5))[-3:] == ("0.75x", "1x", "missed")


def test_an_answer_that_is_not_certified_wins_nothing():
    assert verdict_of(row("auto", 1.0, failures=1), row("DAQP", 1.5))[-1] == "missed"
    assert verdict_of(row("auto", 1.0), row("DAQP", 0.5, failures=1), row("PIQP", 3.0))[-3:] == ("3.00x", "1x", "open")
    assert verdict_of(row("auto", 1.0))[-1] == "open"


def test_a_faster_peer_than_the_named_one_is_said_aloud():
    line = verdict_of(row("auto", 1.0), row("DAQP", 1.5), row("PIQP", 0.5))
    assert line[-1] == "met" and "the fastest is PIQP, 500 ms" in line[4]


def test_without_the_fastest_known_peer_nothing_is_decided():
    label = "LASSO 784x392, power law, B=64"
    rows = [replace(r, case=label) for r in (row("auto", 1.0), row("scikit-learn CD", 3.0))]
    assert verdict_of(*rows)[-1] == "open"
    assert verdict_of(*rows, replace(row("SPAMS LARS", 0.1), case=label))[-1] == "missed"


def test_a_faster_peer_that_fails_on_few_signals_leaves_the_target_open():
    label = "LASSO 784x392, gaussian, B=1024"
    rows = [replace(r, case=label) for r in (row("auto", 0.1), row("skglm", 2.0), row("scikit-learn CD", 0.3, failures=1))]
    line = verdict_of(*rows, name="7x")
    assert line[-1] == "open" and "scikit-learn CD: 300 ms, 1 of 64 fail" in line[4]
    assert verdict_of(*rows[:2], name="7x")[-1] == "met"


def test_extrapolated_times_are_marked():
    assert " x8" in " ".join(verdict_of(row("auto", 1.0), row("DAQP", 1.5, run=8)))


def test_every_target_names_a_case_that_is_run():
    full = {case.label for case in cases(False)}
    names = {p.name for p in PEERS}
    promised = targets(sorted(full))
    assert len([t for t in promised if t.kind == "peer"]) >= 11  # thirteen with the trained layers
    for target in promised:
        assert isinstance(target, Target) and target.case in full and set(target.against) <= names


def test_profile_ratios_are_over_the_fastest_certified():
    found = profile_ratios([row("auto", 2.0), row("DAQP", 1.0), row("PIQP", 0.5, failures=3)], [LABEL])
    assert found == {"auto (ours)": [2.0], "DAQP": [1.0]}


def test_a_row_without_an_answer_keeps_its_reason():
    table = case_table(LABEL, [Row(LABEL, "DAQP", "peer", note="ValueError: no"), row("auto", 1.0)], RATES)
    assert [r[0] for r in table.rows] == ["**auto**", "DAQP"] and table.rows[1][-1] == "ValueError: no"
    assert {len(r) for r in table.rows} == {len(table.header)}


# --- the whole ------------------------------------------------------------------------------------


def test_a_quick_run_writes_tables_json_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    call_script(
        layers.main, monkeypatch, "--quick", "--only", "lasso 49x24, gaussian", "--budget", "0.1",
        "--peers", "scikit-learn CD,OSQP,CVXPY with CLARABEL", "--out", str(tmp_path),
    )  # fmt: skip
    assert "Ours against the best certified peer" in capsys.readouterr().out
    record = json.loads((tmp_path / "layers_quick.json").read_text())
    solvers = {r["solver"]: r for r in record["rows"] if r["dtype"] == "float64"}
    assert {"auto", "OSQP", "CVXPY with CLARABEL"} <= set(solvers)
    assert solvers["auto"]["verdict"]["failures"] == 0 and solvers["auto"]["verdict"]["gap"] <= 1e-6
    assert {"processor", "cores", "versions", "commit", "date", "load"} <= set(record["circumstances"])
    assert "| solver | type |" in (tmp_path / "layers_quick.md").read_text()
    pictures = sorted(tmp_path.glob("*.png"))
    assert len(pictures) == 2 and all(p.read_bytes().startswith(b"\x89PNG") for p in pictures)


def test_growth_measures_each_size_in_a_process_of_its_own(tmp_path: Path):
    run_script(ROOT / "benchmarks" / "growth.py", "--sizes", "2,5", "--only", "latent", "--out", str(tmp_path))
    record = json.loads((tmp_path / "growth_cpu.json").read_text())
    assert [(r["case"], r["N"]) for r in record["rows"]] == [("latent 128x20", 2), ("latent 128x20", 5)]
    assert all(map(well_measured, record["rows"]))
    assert (tmp_path / "growth_cpu.png").stat().st_size > 10_000
    assert "| latent 128x20 | 5 |" in (tmp_path / "growth_cpu.md").read_text()


@pytest.mark.parametrize("name", [name for name in growth.NAMES if not name.startswith("latent")])
def test_growth_measures_every_case(name: str):
    assert all(well_measured(growth.measure(name, N, "cpu")) for N in (2, 5))


def well_measured(row: dict) -> bool:
    return row["statuses"] == {"optimal": row["N"]} and row["seconds"] > 0 and row["peak_mib"] >= 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_device_is_said_aloud(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    call_script(layers.main, monkeypatch, "--quick", "--device", "cuda")
    said = capsys.readouterr().out
    assert "skipped: --device cuda" in said and "case 1" not in said


def test_every_measurement_is_inverted_as_its_matrix_is(tmp_path: Path):
    run_script(ROOT / "benchmarks" / "operators.py", "--quick", "--only", "blur", "--out", str(tmp_path))
    rows = json.loads((tmp_path / "operators_quick.json").read_text())["results"]["digits_8x8"]
    assert len(rows) == 6 and "certificates off" in (tmp_path / "operators_quick.md").read_text()
    for name, row in rows.items():
        assert row["recovered"] == row["dense"]["recovered"] == row["determined"] == 3, name
        assert row["layers"].get("alike", True) and row["layers"].get("z off", 0) < 1e-8, name


def test_what_is_said_of_noisy_signals_is_counted(tmp_path: Path):
    run_script(
        ROOT / "benchmarks" / "error_bars.py", "--quick", "--noise", "0.05", "--signals", "20", "--out", str(tmp_path)
    )
    rows = json.loads((tmp_path / "error_bars_cpu.json").read_text())["results"]
    words = (tmp_path / "error_bars_cpu.md").read_text()
    assert len(rows) == 7 and "Share of the truth" in words and (tmp_path / "error_bars_cpu.png").exists()
    for key, row in rows.items():
        if key.startswith("coverage"):
            assert 0.85 < row["of_z"][5] <= 1 and 0.85 < row["of_signal"][5] <= 1 and row["of_z"][0] < 0.65, key
        else:
            assert 0.9 < row["median"] < 1.1 and row["explained"] > 17, key


def test_the_nearest_signals_are_measured(tmp_path: Path):
    run_script(ROOT / "benchmarks" / "nearest.py", "--quick", "--out", str(tmp_path))
    (row,) = json.loads((tmp_path / "nearest_cpu.json").read_text())["results"].values()
    assert row["worse"] == 0 and row["misfit"]["hybrid"] <= row["misfit"]["Adam"] and row["statuses"] == {"stationary": 4}
    assert "The nearest signals" in (tmp_path / "nearest_cpu.md").read_text()


def test_signals_under_a_bound_on_the_largest_entry_are_measured(tmp_path: Path):
    run_script(ROOT / "benchmarks" / "bounded.py", "--quick", "--out", str(tmp_path))
    (rows,) = json.loads((tmp_path / "bounded_cpu.json").read_text())["results"].values()
    assert rows["0.01"]["explained"]["hybrid"] == 4 and rows["0.01"]["largest"]["hybrid"] <= 1
    assert "Own signals under a bound" in (tmp_path / "bounded_cpu.md").read_text()


def test_what_hybrid_finds_is_counted():
    G = ci.load_generator(ROOT / "cvxinv" / "shipped" / "mnist_gan").to(torch.float64)
    for hidden in (0.0, 0.45):
        found = wide.measure(G, 2, hidden)
        assert (found["found"], found["of"], found["explained"], found["determined"]) == (2, 2, 2, 2)
        assert 0 < found["median"] <= found["worst"] and sum(found["used"].values()) == 2
    assert wide.is_wide(G) is False and len(wide.cells(found | {"generator": "", "output": "", "seen": ""})) == len(
        wide.COLUMNS
    )


def test_normal_equations_are_measured_by_every_way(tmp_path: Path):
    run_script(ROOT / "benchmarks" / "jacobians.py", "--quick", "--out", str(tmp_path))
    record = json.loads((tmp_path / "jacobians_quick.json").read_text())
    assert [row["columns"]["chosen"] for row in record["rows"]] == ["single", "columns"]
    assert all(row[way]["seconds"] > 0 for row in record["rows"] for way in ("columns", "single", "blocks", "krylov"))
    assert "dense 20-400-784" in (tmp_path / "jacobians_quick.md").read_text()


def test_launches_are_counted_and_bounded(tmp_path: Path):
    run_script(ROOT / "benchmarks" / "launches.py", "--quick", "--only", "auto", "--out", str(tmp_path))
    record = json.loads((tmp_path / "launches_quick.json").read_text())
    assert len(record["rows"]) == 3 and "commit" in record["circumstances"]
    for row in record["rows"]:
        assert row["statuses"] == {"optimal": row["signals"]}
        assert row["kernel_ms"] >= 5e-3 * row["kernels"] - 1e-3  # 5 us each at least
        assert abs(row["bound_ms"] - row["kernel_ms"] - 20e-3 * row["waits"]) < 1e-3
    assert "20 us" in (tmp_path / "launches_quick.md").read_text()


def test_a_quick_comparison_of_all_methods_goes_on_and_says_where_hybrid_is_not_the_best(tmp_path: Path):
    words = ("--quick", "--out", str(tmp_path), "--runs", str(tmp_path / "runs"))
    run_script(ROOT / "benchmarks" / "compared.py", *words)
    record = json.loads((tmp_path / "compared_quick.json").read_text())
    assert [t["setting"] for t in record["tables"]] == ["clean", "45 % hidden"]
    assert all([m["name"] for m in t["methods"]] == list(ci.METHODS) for t in record["tables"])
    page = (tmp_path / "compared_quick.md").read_text()
    assert (
        "## Where hybrid is not the best of the table: where and why" in page and (tmp_path / "compared_quick.png").exists()
    )
    run_script(ROOT / "benchmarks" / "compared.py", *words)
    assert json.loads((tmp_path / "compared_quick.json").read_text())["tables"] == record["tables"]  # read, not run again
