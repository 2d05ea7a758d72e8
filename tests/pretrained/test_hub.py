"""Solvers on the hub: pushed to and loaded from a stand-in on this machine."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_standin import Hub, Repository
from huggingface_hub import ModelCard, constants, errors, file_download

from energysolve import SGD, Adam, Energy, EnergySolver, GradientNorm, MLPEnergy, Uniform, cli
from energysolve.pretrained.card import model_card, unedited
from energysolve.pretrained.files import find, load, names, read_config, save
from energysolve.pretrained.hub import Download, Upload, is_hub_id, locate

FILES = {"README.md", "config.json", "model.safetensors"}
TOKEN = "hf_" + "secret" * 5


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with Hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        for module in (constants, file_download):  # the latter in versions that import the value
            template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.chdir(tmp_path)
        yield server


def small_solver(**fields):
    return EnergySolver(MLPEnergy(6, 3, width=8), SGD(lr=0.5), init=Uniform((3,))).replace(**fields)


def same(found, expected):
    """Whether two solvers have equal parts, equal parameters and equal answers."""
    x, y = torch.randn(4, 6), torch.randn(4, 3)
    with torch.no_grad():
        ours, theirs = expected.minimize(x, y), found.minimize(x, y)
    ours_state, theirs_state = expected.state_dict(), found.state_dict()
    return (
        found.optimizer == expected.optimizer
        and found.halting == expected.halting
        and ours_state.keys() == theirs_state.keys()
        and all(torch.equal(theirs_state[name], value) for name, value in ours_state.items())
        and torch.equal(ours.y, theirs.y)
        and torch.equal(ours.steps, theirs.steps)
    )


def test_round_trip(hub):
    solver = small_solver(optimizer=Adam(0.1), halting=GradientNorm(1e-3))
    address = solver.push_to_hub("user/model", token=TOKEN)
    repository = hub.repositories["user/model"]
    assert address == f"{hub.address}/user/model/commit/{repository.heads['main']}"
    assert set(repository.files()) == FILES
    again = EnergySolver.from_pretrained("user/model")
    assert same(again, solver)
    assert not again.training


def test_pushing_twice_replaces_the_solver(hub):
    small_solver().push_to_hub("user/model")
    first = hub.repositories["user/model"].heads["main"]
    assert EnergySolver.from_pretrained("user/model").max_steps == 100
    solver = small_solver(max_steps=7)
    solver.push_to_hub("user/model", commit_message="Fewer steps")
    assert hub.repositories["user/model"].messages[-1] == "Fewer steps"
    assert same(EnergySolver.from_pretrained("user/model"), solver)
    assert "| max_steps | `7` |" in hub.repositories["user/model"].files()["README.md"].decode()
    assert EnergySolver.from_pretrained("user/model", revision=first).max_steps == 100


def test_an_edited_card_on_the_hub_stays(hub):
    small_solver().push_to_hub("user/model")
    repository = hub.repositories["user/model"]
    repository.commit("main", {"README.md": b"My own words"}, "edit")
    small_solver(max_steps=7).push_to_hub("user/model")
    assert repository.files()["README.md"] == b"My own words"
    assert json.loads(repository.files()["config.json"])["solver"]["max_steps"] == 7


def test_save_and_push_sends_the_files_of_the_solver_alone(hub, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "diary.txt").write_text("private")
    (folder / "README.md").write_text("My own words")
    hub.repositories["user/model"] = Repository()
    hub.repositories["user/model"].commit("main", {"README.md": b"Older words"}, "edit")
    solver = small_solver()
    address = solver.save_pretrained(folder, push_to_hub=True, repo_id="user/model")
    assert address.startswith(f"{hub.address}/user/model/commit/")
    assert set(hub.repositories["user/model"].files()) == FILES
    assert hub.repositories["user/model"].files()["README.md"] == b"My own words"
    solver.save_pretrained(folder, push_to_hub=True)
    assert set(hub.repositories["me/model"].files()) == FILES  # the name of the folder, the user's namespace
    assert solver.save_pretrained(folder) is None
    with pytest.raises(ValueError, match="pass push_to_hub=True too"):
        solver.save_pretrained(folder, repo_id="user/model")


def test_the_card_of_a_push_names_the_repository_in_full(hub):
    small_solver().push_to_hub("model")
    assert 'from_pretrained("me/model")' in hub.repositories["me/model"].files()["README.md"].decode()


def test_branches_and_pull_requests(hub):
    small_solver().push_to_hub("user/model")
    small_solver(max_steps=7).push_to_hub("user/model", branch="short")
    small_solver(max_steps=8).push_to_hub("user/model", branch="short")
    address = small_solver(max_steps=9).push_to_hub("user/model", create_pr=True)
    assert address == f"{hub.address}/user/model/discussions/1"
    found = {r: EnergySolver.from_pretrained("user/model", revision=r).max_steps for r in (None, "short", "refs/pr/1")}
    assert found == {None: 100, "short": 8, "refs/pr/1": 9}
    with pytest.raises(FileNotFoundError, match=r"no folder user/model.*addition.*has no such revision"):
        EnergySolver.from_pretrained("user/model", revision="long")


def test_private_is_passed_on_and_kept(hub):
    small_solver().push_to_hub("user/hidden", private=True)
    small_solver().push_to_hub("user/shown", private=False)
    assert {name: each.private for name, each in hub.repositories.items()} == {"user/hidden": True, "user/shown": False}
    small_solver(max_steps=7).push_to_hub("user/hidden", private=True)
    with pytest.raises(ValueError, match="exists and is public"):
        small_solver(max_steps=7).push_to_hub("user/shown", private=True)
    steps = [json.loads(each.files()["config.json"])["solver"]["max_steps"] for each in hub.repositories.values()]
    assert steps == [7, 100]


def test_what_cannot_be_saved_is_not_pushed(hub):
    with pytest.raises(TypeError, match="init cannot be saved"):
        small_solver(init=lambda x, layout, generator: x).push_to_hub("user/model")
    assert hub.asked == []


def test_only_what_is_needed_is_downloaded_and_kept(hub, tmp_path):
    small_solver().push_to_hub("user/model")
    hub.repositories["user/model"].commit("main", {"modeling.py": b"raise SystemExit", "other.bin": b"x"}, "more")
    EnergySolver.from_pretrained("user/model", cache_dir=tmp_path / "mine")
    fetched = {path.name for path in (tmp_path / "mine").rglob("snapshots/*/*")}
    assert fetched == {"config.json", "model.safetensors"}
    assert not (tmp_path / "cache").exists()
    hub.asked.clear()
    again = EnergySolver.from_pretrained("user/model", cache_dir=tmp_path / "mine", local_files_only=True)
    assert isinstance(again, EnergySolver)
    assert hub.asked == []
    with pytest.raises(FileNotFoundError, match=r"not in the local cache.*local_files_only"):
        EnergySolver.from_pretrained("user/model", local_files_only=True)


def flip(content):
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


def test_damage_on_the_hub_is_recognized(hub):
    small_solver().push_to_hub("user/model")
    repository = hub.repositories["user/model"]
    good = repository.files()["model.safetensors"]
    repository.commit("main", {"model.safetensors": flip(good)}, "damage")
    with pytest.raises(ValueError, match=r"'user/model' from the hub .*model\.safetensors was truncated or altered"):
        EnergySolver.from_pretrained("user/model")


def test_a_damaged_download_is_repeated(hub):
    small_solver().push_to_hub("user/model")
    weights = locate("user/model") / "model.safetensors"
    good = weights.read_bytes()
    weights.resolve().write_bytes(flip(good))
    with pytest.raises(ValueError, match="force_download=True repeats it"):
        EnergySolver.from_pretrained("user/model")
    EnergySolver.from_pretrained("user/model", force_download=True)
    assert weights.read_bytes() == good


@pytest.mark.parametrize(
    ("files", "kind", "message"),
    [
        ({"config.json": b'{"architectures": ["Bert"]}'}, ValueError, 'has no "format_version"'),
        ({"config.json": b'{"format_version": 99}'}, ValueError, "has format version 99"),
        ({"pytorch_model.bin": b"a pickle"}, FileNotFoundError, r"holds no config\.json"),
        ({}, FileNotFoundError, r"holds no config\.json"),
    ],
)
def test_models_of_other_libraries_are_refused(hub, files, kind, message):
    hub.repositories["user/model"] = Repository()
    hub.repositories["user/model"].commit("main", files, "theirs")
    with pytest.raises(kind, match=message):
        EnergySolver.from_pretrained("user/model")


@pytest.mark.parametrize("part", [{"type": "os.system"}, {"type": "Soon"}])
def test_only_registered_parts_come_from_the_hub(hub, part):
    small_solver().push_to_hub("user/model")
    repository = hub.repositories["user/model"]
    config = json.loads(repository.files()["config.json"])
    config["solver"]["halting"] = part
    repository.commit("main", {"config.json": json.dumps(config).encode()}, "theirs")
    with pytest.raises(ValueError, match="Unknown type"):
        EnergySolver.from_pretrained("user/model")


def test_own_energies_are_given_when_loading(hub):
    saved = EnergySolver(Own(), SGD(0.1))
    saved.push_to_hub("user/own")
    energy = Own()
    assert EnergySolver.from_pretrained("user/own", energy=energy).energy is energy
    assert torch.equal(energy.weight, saved.energy.weight)
    card = hub.repositories["user/own"].files()["README.md"].decode()
    assert 'from_pretrained("user/own", energy=energy)' in card
    assert "`energy` is a `Own`" in card


class Own(Energy):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.rand(3))

    def evaluate(self, context, y):
        return (self.weight * (y - context)).square().sum(-1)


@pytest.mark.parametrize(
    ("refused", "kind", "message"),
    [
        (None, FileNotFoundError, "no model of that id, or the model is private.*token="),
        ((403, "GatedRepo"), PermissionError, "accepting the terms.*token="),
        ((403, ""), PermissionError, "does not permit it.*token="),
        ((500, ""), OSError, "500"),
    ],
)
def test_refusals_of_a_download_are_explained(hub, refused, kind, message):
    if refused:
        hub.repositories["user/model"] = Repository()
        hub.repositories["user/model"].refused = refused
    tried = f"no folder user/model.*library .{', '.join(names())}"
    with pytest.raises(kind, match=f"(?s){tried}.*{message}") as caught:
        EnergySolver.from_pretrained("user/model", token=TOKEN)
    assert caught.value.__cause__ is not None


def test_refusals_of_a_push_are_explained(hub):
    hub.repositories["user/model"] = Repository()
    hub.repositories["user/model"].refused = (403, "")
    with pytest.raises(PermissionError, match=r"Cannot push to 'user/model'.*does not permit it.*token=") as caught:
        small_solver().push_to_hub("user/model", token=TOKEN)
    assert isinstance(caught.value.__cause__, errors.HfHubHTTPError)


@pytest.mark.parametrize("name", ["user/two--dashes", "user/" + "long" * 30])
def test_ids_that_the_hub_does_not_allow(hub, name):
    with pytest.raises(FileNotFoundError, match=r"does not allow such an id"):
        EnergySolver.from_pretrained(name)
    with pytest.raises(FileNotFoundError, match=r"does not allow such an id"):
        small_solver().push_to_hub(name)
    assert hub.asked == []


def test_without_a_connection(hub, monkeypatch):
    small_solver().push_to_hub("user/model")
    solver = EnergySolver.from_pretrained("user/model")
    hub.__exit__()
    assert same(EnergySolver.from_pretrained("user/model"), solver)  # downloaded before
    with pytest.raises(ConnectionError, match=r"no folder user/other.*cannot be reached") as caught:
        EnergySolver.from_pretrained("user/other")
    assert caught.value.__cause__ is not None
    with pytest.raises(OSError, match="Cannot push to 'user/other'"):
        solver.push_to_hub("user/other")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match="cannot be reached"):
        EnergySolver.from_pretrained("user/other")


def test_the_token_is_sent_and_never_shown(hub, capfd, caplog):
    caplog.set_level(0)
    small_solver().push_to_hub("user/model", token=TOKEN)
    EnergySolver.from_pretrained("user/model", token=TOKEN)
    assert {authorization for _, _, authorization in hub.asked} == {f"Bearer {TOKEN}"}
    assert TOKEN not in repr(Download(token=TOKEN)) + repr(Upload(token=TOKEN))
    assert not [each for each in hub.repositories["user/model"].files().values() if TOKEN.encode() in each]
    shown = []
    for call in (EnergySolver.from_pretrained, small_solver().push_to_hub):
        for name, token in {"user/model": f"{TOKEN}\n", "user/two--dashes": TOKEN}.items():
            with pytest.raises((OSError, ValueError)) as caught:
                call(name, token=token)
            error = caught.value
            while error is not None:
                shown.append(str(error))
                error = error.__cause__ or error.__context__
    assert not [text for text in [*shown, *capfd.readouterr(), caplog.text] if TOKEN in text]


@pytest.mark.parametrize("token", ["", " ", "hf_a b", "hf_a\n", "hf_ü"])
def test_impossible_tokens_are_refused_unshown(token):
    for options in (Download, Upload):
        with pytest.raises(ValueError, match="no access token has") as caught:
            options(token=token)
        assert not token.strip() or token not in str(caught.value)


def test_without_huggingface_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    message = r"pip install 'energysolve\[hub\]'"
    with pytest.raises(ImportError, match=f"no folder user/model.*addition.*{message}"):
        EnergySolver.from_pretrained("user/model")
    with pytest.raises(ImportError, match=message):
        small_solver().push_to_hub("user/model")
    small_solver().save_pretrained("user/model")
    assert isinstance(EnergySolver.from_pretrained("user/model"), EnergySolver)


def test_the_library_of_the_hub_is_imported_when_it_is_needed():
    program = (
        "import sys, energysolve; energysolve.EnergySolver.from_pretrained('addition'); "
        "import energysolve.pretrained.hub; print('huggingface_hub' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, True) for name in ("user/model", "a-b/c_d.e", "runs/0")),
        *((name, False) for name in ("model", "./model", "../model", "/model", "user/", "~/model", "a/b/c", "")),
        *((name, False) for name in ("user/model\n", "user\\model", "here/exists")),
    ],
)
def test_what_looks_like_an_id(name, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "exists").mkdir(parents=True)
    assert is_hub_id(name) == expected
    assert not is_hub_id(Path(name))  # a path says that it is a folder


def test_folders_come_first_and_have_no_revisions(hub):
    small_solver(max_steps=7).push_to_hub("user/model")
    small_solver(max_steps=8).save_pretrained("user/model")
    assert EnergySolver.from_pretrained("user/model").max_steps == 8
    for name in ("user/model", "addition"):
        with pytest.raises(ValueError, match="is for models on the hub"):
            EnergySolver.from_pretrained(name, revision="main")


def test_the_card_follows_the_solver_until_somebody_edits_it(tmp_path):
    card = tmp_path / "README.md"
    small_solver(max_steps=7).save_pretrained(tmp_path)
    assert "| max_steps | `7` |" in card.read_text()
    small_solver(max_steps=8).save_pretrained(tmp_path)
    assert "| max_steps | `8` |" in card.read_text()
    for edited in (card.read_text().replace("`8`", "`9`"), card.read_text() + "\nMore.\n", "Mine", ""):
        card.write_text(edited)
        assert not unedited(edited)
        small_solver(max_steps=10).save_pretrained(tmp_path)
        assert card.read_text() == edited


def test_the_card_shows_how_to_load_and_what_was_measured():
    config = read_config(find("addition-mlp"))
    card = model_card(config, "addition-mlp")
    assert card.startswith("---\nlibrary_name: energysolve\n")
    assert ModelCard(card, ignore_metadata_errors=False).data.library_name == "energysolve"
    solver = load(EnergySolver, "addition-mlp")
    for name in ("optimizer", "init", "halting", "max_steps"):
        assert f"| {name} | `{getattr(solver, name)!r}` |" in card
    evaluation = config["training"]["evaluation"]
    for name, row in {"error": "error", "zero_error": "floor: error of answering zero"}.items():
        values = [f"{evaluation[difficulty][name]:.4g}" for difficulty in ("same", "harder")]
        assert f"| {row} | {' | '.join(values)} |" in card
    assert "|  | same | harder |" in card
    assert config["training"]["command"] in card
    shown = re.search(r"```python\n(.*?)```", card, flags=re.DOTALL)[1]
    space = {"x": torch.rand(2, 800)}
    exec(shown, space)
    assert space["solution"].y.shape == (2, 400)


@pytest.mark.parametrize(
    ("training", "shown"),
    [
        ({"evaluation": {"test": {"error": None, "by | pipe": 1}}}, [r"| by \| pipe | 1 |", "| error | - |"]),
        ({"evaluation": {"accuracy": 0.5}}, ['"accuracy": 0.5']),
        ({"by": "hand\n```\n# heading"}, [r'"by": "hand\n```\n# heading"']),
    ],
)
def test_any_training_metadata_is_shown(tmp_path, training, shown):
    small_solver().save_pretrained(tmp_path, training=training)
    assert read_config(tmp_path)["training"] == training
    card = (tmp_path / "README.md").read_text()
    assert all(each in card for each in shown)
    assert "floor" not in card


def test_training_metadata_is_pushed(hub):
    small_solver().push_to_hub("user/model", training={"iterations": 3})
    assert read_config(locate("user/model"))["training"] == {"iterations": 3}
    assert '"iterations": 3' in hub.repositories["user/model"].files()["README.md"].decode()


def test_the_command_line_takes_ids(hub, capsys):
    EnergySolver(MLPEnergy(8, 4, width=8), SGD(1.0), init=Uniform((4,))).push_to_hub("user/model")
    for name, code in {"user/model": 0, "user/none": 1}.items():
        with pytest.raises(SystemExit) as stop:
            cli.main(["solve", "addition", "--model", name, "--problems", "4", "--max-steps", "3", "--output", "out"])
        assert stop.value.code == code
    assert json.loads(Path("out/result.json").read_text())["model"]["name"] == "user/model"
    assert "the hub has no model of that id" in " ".join(capsys.readouterr().err.split())


def test_a_card_is_written_by_save_too(tmp_path):
    save(small_solver(), tmp_path / "name")
    assert 'from_pretrained("name")' in (tmp_path / "name" / "README.md").read_text()
