"""GR4J and CemaNeige against reference values, and their water balance."""
import csv
import os

import numpy as np

import gr4j
import metrics
import snow

# airGR's example catchment as CSV (date, precip_mm, temp_c, pet_mm, q_mm), if it is at hand.
EXAMPLE = os.environ.get("AIRGR_L0123001", "")


def test_unit_hydrographs_sum_to_one():
    first, second = gr4j.unit_hydrographs(np.array([0.6, 1.0, 2.208, 7.5, 11.0]))
    assert np.allclose(first.sum(1), 1.0) and np.allclose(second.sum(1), 1.0)
    # By hand for x4 = 2: S1(1) = (1/2)^2.5, S2(1) = S1(1)/2.
    first, second = gr4j.unit_hydrographs(np.array([2.0]))
    assert np.isclose(first[0, 0], 0.5 ** 2.5) and np.isclose(second[0, 0], 0.5 * 0.5 ** 2.5)


def test_one_step_by_hand():
    params = np.array([[350.0, 0.0, 90.0, 1.0]])
    state = gr4j.initial_state(params)
    flow = gr4j.step(state, params, gr4j.unit_hydrographs(params[:, 3]), np.array([20.0]), np.array([5.0]))
    s, net = 105.0, 15.0
    w = np.tanh(net / 350.0)
    gain = 350.0 * (1 - 0.3 ** 2) * w / (1 + 0.3 * w)
    s += gain
    percolation = s * (1 - (1 + (4 / 9 * s / 350.0) ** 4) ** -0.25)
    routed = percolation + net - gain
    r = 45.0 + 0.9 * routed
    outflow = r * (1 - (1 + (r / 90.0) ** 4) ** -0.25)
    assert np.isclose(flow[0], outflow + 0.1 * routed * 0.5, atol=1e-12)
    assert np.isclose(state.s[0], s - percolation) and np.isclose(state.r[0], r - outflow)


def test_water_balance_without_exchange():
    rng = np.random.default_rng(1)
    params = np.array([[320.0, 0.0, 70.0, 3.1], [900.0, 0.0, 20.0, 1.2]])
    state = gr4j.initial_state(params)
    start = state.s + state.r
    ordinates = gr4j.unit_hydrographs(params[:, 3])
    rain = np.where(rng.random(2000) < 0.4, rng.exponential(7.0, 2000), 0.0)
    out = np.zeros(2)
    for p in rain:
        out += gr4j.step(state, params, ordinates, np.full(2, p), np.zeros(2))
    stored = state.s + state.r + state.uh1[:, 1:].sum(1) + state.uh2[:, 1:].sum(1)
    assert np.allclose(start + rain.sum(), out + stored, rtol=1e-9)


def test_golden_value_of_airgr():
    if not os.path.exists(EXAMPLE):
        print("       (skipped: airGR's L0123001 is not at hand; set AIRGR_L0123001)")
        return
    with open(EXAMPLE, newline="") as file:
        rows = [r for r in csv.DictReader(file) if "1989-01-01" <= r["date"] <= "1999-12-31"]
    rain, pet, flow = (np.array([float(r[k] or "nan") for r in rows]) for k in ("precip_mm", "pet_mm", "q_mm"))
    simulated, _ = gr4j.run(np.array([[257.238, 1.012, 88.235, 2.208]]), rain, pet)
    after = np.array([r["date"] >= "1990-01-01" for r in rows])
    assert round(metrics.nse(flow[after], simulated[after, 0]), 4) == 0.7988


def test_routing_store_gives_the_observed_flow():
    params = np.array([[300.0, 0.5, 80.0, 2.0]])
    rng = np.random.default_rng(2)
    flow, state = gr4j.run(params, rng.exponential(3.0, 400), np.full(400, 1.0))
    assert np.allclose(gr4j.routing_store_for(flow[-1], state, params[:, 2]), state.r, rtol=1e-3)


def test_snow_keeps_water():
    rng = np.random.default_rng(4)
    params = np.array([[0.4, 3.5, 4.0]])
    pack, liquid = snow.empty_pack(1), 0.0
    rain, temperature = rng.exponential(3.0, 1500), 4 + 9 * np.sin(np.arange(1500) / 58.0)
    for p, t in zip(rain, temperature):
        liquid += snow.step(pack, params, 300.0, np.array([p]), np.array([t]))[0]
    assert np.isclose(rain.sum(), liquid + pack.water.mean()) and pack.water.min() >= 0.0
    cold = snow.empty_pack(1)
    assert snow.step(cold, params, 300.0, np.array([5.0]), np.array([-20.0]))[0] == 0.0


def test_columns_do_not_influence_each_other():
    rng = np.random.default_rng(6)
    params = np.column_stack([rng.uniform(50, 900, 7), rng.uniform(-3, 3, 7), rng.uniform(5, 300, 7),
                              rng.uniform(0.6, 9, 7)])
    rain, pet = rng.exponential(4.0, 300), rng.uniform(0, 4, 300)
    together, _ = gr4j.run(params, rain, pet)
    alone, _ = gr4j.run(params[3:4], rain, pet)
    assert np.array_equal(together[:, 3], alone[:, 0])
