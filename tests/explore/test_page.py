"""The page without a browser: what its callbacks answer, how it serves, and what it refuses."""

import http.client
import json
import math
import threading

import explorable
import pytest
import torch

from energysolve.explore import Session, Settings, energy_subject
from energysolve.explore.settings import Method

pytest.importorskip("dash", reason="the extra explore is not installed")

from energysolve.explore import figures, texts
from energysolve.explore.controls import VALUES
from energysolve.explore.page import Page, _clicked, _zoomed, make_app
from energysolve.explore.serving import serve

SENT = dict.fromkeys(VALUES) | {
    "problem": 0,
    "optimizer A": "LBFGS",
    "criterion": "GradientNorm",
    "tolerance": 1e-6,
    "max_steps": 100,
}


def page(energy=explorable.bowl):
    return Page(Session(energy_subject("mine", energy, (2,))))


def shown(energy=explorable.bowl, **changes):
    return page(energy).show(*(SENT | changes).values())


def said(answer):
    return [alert.children for alert in answer[5]]


def test_the_figures_show_every_optimizer():
    landscape, energies, slopes, last, value, errors, _ = shown(
        **{"optimizer C": "SGD", "step C": 0.1, "start": [3.0, -1.0]}
    )
    assert errors == []
    assert last == value > 5
    assert [trace.name for trace in landscape.data if trace.showlegend][1:] == ["A: LBFGS", "C: SGD, step 0.1"]
    sgd = landscape.data[3 + 3 * 2]
    # y_1 - 1 shrinks by 1 - 2 * 0.1 in each step, from 2 on.
    assert sgd.x[:4] == pytest.approx([3, 2.6, 2.28, 2.024])
    assert energies.data[4].y[:3] == pytest.approx([4, 2.56, 1.6384])
    assert slopes.data[4].y[:3] == pytest.approx([4, 3.2, 2.56])
    assert energies.data[4].x[:3] == (1, 2, 3)


def test_the_slider_shows_part_of_the_descent():
    sent = (SENT | {"optimizer A": "SGD", "step A": 0.1, "start": [3.0, -1.0]}).values()
    landscape, energies, slopes, table = page().move(3, *sent)
    assert landscape.to_plotly_json()["operations"][0]["params"]["value"] == pytest.approx([3, 2.6, 2.28])
    assert energies.to_plotly_json()["operations"][1]["params"]["value"] == pytest.approx([1.6384])
    assert slopes.to_plotly_json()["operations"][1]["params"]["value"] == pytest.approx([2.56])
    row = [cell.children for cell in table.children[1].children]
    assert row[1].startswith("2 of ")
    assert row[2:4] == ["1.6384", "2.56"]


@pytest.mark.parametrize("evaluations", [None, "x", math.inf, [1]])
def test_a_bad_slider_moves_nothing(evaluations):
    assert page().move(evaluations, *SENT.values())[3] == ""


def test_an_error_of_the_energy_is_shown_with_its_line():
    answer = shown(explorable.summed)
    assert "ValueError: The energy returned shape ()" in said(answer)[0]
    assert answer[3:5] == (1, 1)
    assert said(shown(explorable.quitting)) == ["SystemExit: enough (explorable.py, line 24)"]


def test_where_the_energy_raises_the_rest_is_shown():
    answer = shown(
        explorable.fragile, start=[1.5, 0.0], view=[0.0, 1.9, -2.0, 2.0], **{"optimizer B": "LevenbergMarquardt"}
    )
    assert len(said(answer)) == 1
    assert said(answer)[0].startswith("B, LevenbergMarquardt: ")
    outside = shown(explorable.fragile, start=[1.5, 0.0], view=[0.0, 4.0, -2.0, 2.0])
    assert said(outside) == ["The landscape: ArithmeticError: no energy <b>here</b> (explorable.py, line 14)"]
    assert len(outside[0].data[3].x) > 3


def test_bad_settings_are_explained_not_raised():
    assert said(shown(**{"optimizer A": "__import__('os')"}))[0].startswith("ValueError: There is no optimizer A")
    assert said(shown(tolerance=None)) == ["ValueError: The tolerance must be a number of 0 or more, got nothing."]


def test_energies_that_are_not_finite_leave_a_gap():
    def half(x, y):
        return torch.where(y[:, 0] > 0, explorable.bowl(x, y), torch.nan)

    landscape = shown(half, start=[1.0, 1.0], view=[-1.0, 1.0, -1.0, 1.0])[0]
    contour = landscape.data[0]
    assert contour.customdata[0][0] is None
    assert contour.z[0][0] is None
    assert contour.customdata[0][-1] == pytest.approx(0.0, abs=1e-12)


def test_contours_keep_the_order_of_energies():
    explored = Session(energy_subject("mine", explorable.bowl, (2,)))
    grid = explored.grid(Settings(plane=(1, 2)))
    plane = explored.plane(Settings(plane=(1, 2)))
    contour = figures.landscape(plane, grid, (-1, 1, -1, 1), {}, ()).data[0]
    z, energy = torch.tensor(contour.z).flatten(), grid.energy.flatten()
    assert torch.equal(z.argsort(), energy.argsort())
    assert float(z.min()) == 0


def test_far_iterates_are_drawn_where_the_figure_can_and_do_not_hide_the_others():
    settings = Settings(plane=(1, 2), start=(2.0, 0.0), max_steps=50, criterion="Never")
    trace = Session(energy_subject("mine", explorable.bowl, (2,))).trace(settings, Method("SGD", 10.0))
    assert float(trace.points.abs().max()) > 1e40
    near = figures.near(trace, (-1, 1, -1, 1))
    assert float(near.points.abs().max()) < 1e3
    assert torch.equal(near.points[0], trace.points[0])
    top = figures.curves({"A": trace}, "energy", "energy").layout.yaxis
    assert top.type == "log"
    assert top.range[1] == pytest.approx(math.log10(100 * 3.0))  # 100 times the energy at the start


def test_clicks_and_zooms():
    assert _clicked({"points": [{"x": 1, "y": 2.5}]}) == [1.0, 2.5]
    for bad in (None, {}, {"points": []}, {"points": [{"x": "a", "y": 1}]}, {"points": [{"x": math.nan, "y": 1}]}, 3):
        assert not isinstance(_clicked(bad), list)
    assert _zoomed((0.0, 4.0, -1.0, 1.0), "closer") == [1.0, 3.0, -0.5, 0.5]
    assert _zoomed((1.0, 3.0, -0.5, 0.5), "wider") == [0.0, 4.0, -1.0, 1.0]


def test_notes_say_what_is_not_seen():
    explored = Session(energy_subject("mine", lambda x, y: (y - 1).square().sum(-1), (3,)))
    settings = Settings(plane=(1, 2), start=None)
    trace = explored.trace(settings, Method("SGD", 0.1))
    found = texts.notes(settings, {"A": trace}, (0.9, 1.1, 0.9, 1.1))
    assert found[0] == "A leaves the view."
    assert "projected onto the plane" in found[1]
    assert texts.notes(settings, {"A": trace._replace(off=trace.off * 0)}, (-9, 9, -9, 9)) == []


@pytest.fixture(scope="module")
def server():
    server = serve(Session(energy_subject("mine", explorable.bowl, (2,))), 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def asked(server, method="GET", path="/", body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, answer.headers


def test_only_this_machine_is_served(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert asked(server)[0] == 200
    assert asked(server, Host=f"localhost:{server.port}")[0] == 200
    for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1:1"):
        assert asked(server, Host=host)[0] == 403
    assert asked(server, Origin=f"http://127.0.0.1:{server.port}")[0] == 200
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{server.port}"):
        assert asked(server, Origin=origin)[0] == 403
    assert "default-src 'self'" in asked(server)[2]["Content-Security-Policy"]


def test_the_port_can_be_taken(server):
    with pytest.raises(OSError, match="in use"):
        serve(Session(energy_subject("mine", explorable.bowl, (2,))), server.port)


POST = ("POST", "/_dash-update-component")


def test_whatever_is_posted_gets_an_answer(server):
    app = make_app(Session(energy_subject("mine", explorable.bowl, (2,))))
    (output,) = (each for each in app.callback_map if "slider.max" in each)
    outputs = [
        dict(zip(("id", "property"), each.rsplit(".", 1), strict=True)) for each in output.strip(".").split("...")
    ]

    def posted(**values):
        inputs = [
            {"id": VALUES[name][0], "property": VALUES[name][1], "value": (SENT | values)[name]} for name in VALUES
        ]
        body = {"output": output, "outputs": outputs, "inputs": inputs, "changedPropIds": [], "state": []}
        status, text, _ = asked(
            server, "POST", "/_dash-update-component", json.dumps(body), Content_Type="application/json"
        )
        assert status == 200, text
        return json.loads(text)["response"]["message"]["children"]

    assert posted() == []
    for name, value in (
        ("problem", "'; import os"),
        ("start", [1e308, 1]),
        ("view", {"a": 1}),
        ("optimizer B", ["SGD"]),
    ):
        (alert,) = posted(**{name: value})
        assert "ValueError" in alert["props"]["children"]
    too_much = asked(server, *POST, "x" * (2 << 20), Content_Type="application/json")
    assert too_much[0] in (400, 413)
