"""The configuration of a training and its command; and the loop, where Torch is installed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.__main__ import TASKS, main, parser
from training.calibration import platt
from training.config import FILE, PLATE_DETECTOR, VIN_READER, ConfigError


def with_torch(*, published: bool = False) -> Any:
    """Return torch, or skip the test; with ``published``, also where PP-OCR's weights are missing."""
    torch = pytest.importorskip("torch", reason="the development environment has no torch")
    if published:
        pytest.importorskip("rapidocr", reason="the published weights are in its wheel")
    return torch


# -- the configuration ---------------------------------------------------------------------------------------


def test_a_training_keeps_its_configuration_and_goes_on_with_it(tmp_path: Path) -> None:
    begun = PLATE_DETECTOR.settle(tmp_path, {"steps": 8900, "seed": 4, "start": "plates/checkpoint.pt"})
    assert json.loads((tmp_path / FILE).read_text(encoding="utf-8"))["seed"] == 4
    assert PLATE_DETECTOR.settle(tmp_path, {}) == begun
    assert PLATE_DETECTOR.saved_in(tmp_path) == begun


def test_what_would_make_it_another_training_is_refused(tmp_path: Path) -> None:
    begun = PLATE_DETECTOR.settle(tmp_path, {"rate": 1.5e-3})
    with pytest.raises(ConfigError, match=r"begun with rate 0\.0015, not 0\.001: choose another --work"):
        PLATE_DETECTOR.settle(tmp_path, {"rate": 1e-3})
    assert PLATE_DETECTOR.saved_in(tmp_path) == begun


def test_when_to_stop_and_how_to_work_may_change(tmp_path: Path) -> None:
    PLATE_DETECTOR.settle(tmp_path, {"minutes": 10.0})
    changed = PLATE_DETECTOR.settle(tmp_path, {"minutes": 40.0, "workers": 0})
    assert (changed.minutes, changed.workers) == (40.0, 0)
    assert PLATE_DETECTOR.saved_in(tmp_path) == changed


def test_another_tasks_folder_is_refused(tmp_path: Path) -> None:
    PLATE_DETECTOR.settle(tmp_path, {})
    with pytest.raises(ConfigError, match="another task's: it holds drawn, last_size, mosaic, size"):
        VIN_READER.saved_in(tmp_path)


def test_every_field_is_described_and_of_a_type_that_json_keeps() -> None:
    for config in (entry.config for entry in TASKS.values()):
        for each in dataclasses.fields(config):
            assert each.metadata["help"]
        assert type(config)(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


# -- the command ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_every_verb_of_every_task_can_be_asked_for(task: str) -> None:
    for word, verb in TASKS[task].verbs.items():
        needed = [name for name, about in verb.options.items() if about.get("required")]
        options = [part for name in needed for part in (f"--{name}", "model.onnx")]
        args = parser().parse_args([task, word, "--data", "d", "--work", "w", *options])
        assert (args.task, args.verb) == (task, word)


def test_only_what_was_said_becomes_part_of_the_configuration() -> None:
    options = ["--data", "d", "--work", "w", "--last-size", "320", "--minutes", "5"]
    args = vars(parser().parse_args(["plate-detector", "train", *options]))
    rest = {name: value for name, value in args.items() if name not in ("task", "verb", "data", "work")}
    assert rest == {"last_size": 320, "minutes": 5.0}


def test_a_run_that_was_begun_otherwise_ends_with_a_sentence(tmp_path: Path) -> None:
    PLATE_DETECTOR.settle(tmp_path, {"seed": 4})
    with pytest.raises(SystemExit, match="was begun with seed 4, not 5"):
        main(["plate-detector", "train", "--data", "d", "--work", str(tmp_path), "--seed", "5"])


# -- calibration ---------------------------------------------------------------------------------------------


def test_scores_become_probabilities() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(1, 2, 20_000)
    right = rng.random(len(logits)) < 1 / (1 + np.exp(-(0.6 * logits - 0.4)))
    slope, offset = platt((1 / (1 + np.exp(-logits))).tolist(), right.tolist())
    assert slope == pytest.approx(0.6, abs=0.03)
    assert offset == pytest.approx(-0.4, abs=0.05)


def test_scores_that_tell_all_or_nothing_get_a_finite_calibration() -> None:
    assert platt([], []) == (1.0, 0.0)
    for scores, right in (([0.2, 0.9], [False, True]), ([0.9, 0.8], [True, True]), ([0.5], [False])):
        assert all(np.isfinite(platt(scores, right)))
    slope, _ = platt([0.2, 0.9] * 20, [False, True] * 20, ridge=0.02)
    assert 1 < slope < 10


# -- the loop ------------------------------------------------------------------------------------------------


class Unasked:
    """What the loop does not ask of a task."""

    labeled: Any = None
    judge: Any = None
    write: Any = None
    quantize: Any = None
    recovered: Any = None


@pytest.fixture
def line_task() -> Any:
    """A task that fits ``y = 2 x + 1``, with what the loop needs of Torch."""
    torch = with_torch()
    from training.loop import Task

    class Line(Unasked, Task[Any, Any]):
        def net(self) -> Any:
            return torch.nn.Linear(1, 1)

        def prepare(self, net: Any) -> list[dict[str, Any]]:
            return [{"params": list(net.parameters()), "share": 1.0, "weight_decay": 0.0}]

        def batches(self, rng: np.random.Generator, size: int) -> Iterator[Any]:
            while True:
                yield torch.from_numpy(rng.normal(0, 1, (self.config.batch, 1)).astype(np.float32))

        def images(self, batch: Any) -> Any:
            return batch

        def loss(self, outputs: Any, batch: Any) -> dict[str, Any]:
            return {"square": ((outputs.float() - 2 * batch - 1) ** 2).mean()}

        def figures(self, net: Any) -> dict[str, Any]:
            return {"slope": round(net.weight.item(), 2), "offset": round(net.bias.item(), 2)}

    return Line


def trained(line_task: Any, work: Path, **given: Any) -> list[dict[str, Any]]:
    """The rows of figures that a training leaves."""
    options = {"steps": 300, "rate": 0.05, "decay": 0.9, "every": 100, "workers": 0}
    config = VIN_READER.settle(work, {**options, **given})
    line_task(work, work, config).train()
    return [json.loads(row) for row in (work / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_loop_learns_and_logs(line_task: Any, tmp_path: Path) -> None:
    rows = trained(line_task, tmp_path)
    assert [row["step"] for row in rows] == [100, 200, 300]
    assert (rows[-1]["slope"], rows[-1]["offset"]) == (pytest.approx(2, abs=0.1), pytest.approx(1, abs=0.1))


def test_a_training_that_was_cut_off_goes_on(line_task: Any, tmp_path: Path) -> None:
    class Died(Exception):
        pass

    class Mortal(line_task):  # type: ignore[misc]
        def loss(self, outputs: Any, batch: Any) -> dict[str, Any]:
            self.learned = getattr(self, "learned", 0) + 1
            if self.learned == 150:
                raise Died
            return dict(super().loss(outputs, batch))

    with pytest.raises(Died):
        trained(Mortal, tmp_path)
    rows = trained(line_task, tmp_path)
    assert [row["step"] for row in rows] == [100, 200, 300]
    assert rows[-1]["slope"] == pytest.approx(2, abs=0.1)


def test_a_finished_training_is_left_alone(line_task: Any, tmp_path: Path) -> None:
    rows = trained(line_task, tmp_path, steps=100)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    assert trained(line_task, tmp_path, steps=100) == rows
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_time_ends_a_training_too(line_task: Any, tmp_path: Path) -> None:
    rows = trained(line_task, tmp_path, steps=10**9, minutes=0.01)
    assert 0 < rows[-1]["step"] < 10**9


def test_a_training_begins_with_the_weights_of_another(line_task: Any, tmp_path: Path) -> None:
    trained(line_task, tmp_path / "first", steps=300)
    rows = trained(line_task, tmp_path / "next", steps=1, every=1, start=str(tmp_path / "first"))
    assert rows[-1]["slope"] == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("last.pt", lambda weights: {"net": weights, "average": weights}),
        ("reader.pt", lambda weights: {"net": {}, "model": weights}),
        (
            "checkpoint.pt",
            lambda weights: {"average": {"n_averaged": 3, **{f"module.{k}": v for k, v in weights.items()}}},
        ),
        ("last.pt", lambda weights: {"net": weights, "step": 1598}),
    ],
)
def test_checkpoints_of_before_can_be_begun_with(
    line_task: Any, tmp_path: Path, name: str, layout: Any
) -> None:
    import torch

    weights = {"weight": torch.tensor([[7.0]]), "bias": torch.tensor([3.0])}
    torch.save(layout(weights), tmp_path / name)
    task = line_task(tmp_path, tmp_path, VIN_READER)
    assert task.figures(task.trained) == {"slope": 7.0, "offset": 3.0}


@pytest.mark.parametrize("name", ["plate_reader", "vin_reader"])
def test_a_shipped_reader_can_be_trained_on_from(name: str) -> None:
    """Its first layers are the published ones still, within a step of seven bits."""
    with_torch(published=True)
    from carsight.runtime import MODELS
    from training import ppocr
    from training.model_files import describe

    model = MODELS / f"{name}.onnx"
    reader, regions = ppocr.recovered(model, describe(model, {})["alphabet"])
    assert (reader.region is not None) == bool(regions) == (name == "plate_reader")


def losses(task: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """Train ``task``; return the terms of the loss of each step."""
    steps: list[dict[str, float]] = []
    loss = task.loss

    def noted(outputs: Any, batch: Any) -> Any:
        terms = loss(outputs, batch)
        steps.append({name: term.item() for name, term in terms.items()})
        return terms

    monkeypatch.setattr(task, "loss", noted)
    task.train()
    return steps


def test_the_shipped_lean_reader_can_be_trained_on_from() -> None:
    """Its net says of a plate what its model says, but for the rounding of activations."""
    torch = with_torch()
    import cv2

    from carsight import runtime
    from training import lean

    model = runtime.MODELS / "plate_reader_lean.onnx"
    net, regions = lean.recovered(model)
    pixels = np.full((120, 400, 3), 240, np.uint8)
    cv2.putText(pixels, "KA PL 482", (15, 85), cv2.FONT_HERSHEY_DUPLEX, 2.2, (20, 20, 20), 6, cv2.LINE_AA)
    crop = np.asarray(cv2.resize(pixels, (160, 48), interpolation=cv2.INTER_AREA), np.uint8)
    session = runtime.session(model)
    said, named = session.run(["logits", "regions"], {"image": runtime.picture_input(session)([crop])})
    with torch.no_grad():
        texts, countries = net(torch.from_numpy(runtime.floats([crop])))
    assert (texts.numpy().argmax(-1) == said.argmax(-1)).all()
    assert countries.numpy().argmax() == named.argmax()
    assert named.shape == (1, len(regions))


def test_the_later_layers_of_the_shipped_detector_learn_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At first they say what the model says; then they learn, and what is before them does not."""
    torch = with_torch()
    import cv2

    from carsight import runtime
    from carsight.geometry import box_corners
    from training.config import LATER_LAYERS
    from training.data import read_image
    from training.later_layers import FirstLayers, LaterLayers
    from training.scenes import Scene

    model = runtime.MODELS / "plate_detector.onnx"
    photo = Path(__file__).resolve().parents[1] / "data" / "plate_us.jpg"
    pixels = np.asarray(cv2.resize(read_image(photo), (640, 352), interpolation=cv2.INTER_AREA), np.uint8)
    given = {"model": str(model), "steps": 3, "batch": 2, "warmup": 1, "every": 3, "size": 128, "workers": 0}
    task = LaterLayers(tmp_path, tmp_path, LATER_LAYERS.settle(tmp_path, given | {"last_size": 128}))
    seen = FirstLayers(model).see(pixels)
    net = task.net().eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        said = net(tuple(torch.from_numpy(seen[name]) for name in ("fine", "middle")))[0].numpy()
    best = seen["teacher"][0, 0].argmax()
    assert said[0, 0].argmax() == best
    np.testing.assert_allclose(said[0, :13, best], seen["teacher"][0, :13, best], atol=0.35)

    box = np.array([[280, 200, 360, 240]], np.float32)
    scene = Scene(
        photo,
        np.stack([box_corners(each) for each in box]),
        np.ones(1, np.bool_),
        box,
        np.zeros(1, np.float32),
    )
    vars(task).update(scenes=([scene], []), crops=[], training=[scene])
    monkeypatch.setattr(task, "figures", lambda net: {})
    learned = losses(task, monkeypatch)
    assert len(learned) == 3
    assert learned[0].keys() >= {"score", "box", "corners", "taught", "vehicle_score"}
    changed = {
        name.split(".")[0]
        for name, value in task.trained.state_dict().items()
        if not value.equal(before[name])
    }
    assert changed >= {"deep", "target_heads", "vehicle_heads"}
    assert not changed & {"stem", "middle"}


# -- lean readers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gates", [True, False])
def test_a_lean_reader_begins_as_what_it_is_made_of(gates: bool) -> None:
    torch = with_torch(published=True)
    from training import lean, ppocr

    reader = ppocr.Reader("0123456789", regions=3).eval()
    whole = lean.LeanReader(
        "0123456789", 3, [block.expand.out_channels for block in reader.body.blocks], gates=gates
    ).eval()
    narrow = lean.LeanReader("0123456789", 3, [64] * 13, (), gates).eval()
    images = torch.rand(6, 3, 6, 20).repeat_interleave(8, 2).repeat_interleave(8, 3)
    teaches = {name: value.clone() for name, value in reader.state_dict().items()}
    with torch.no_grad():
        maps = reader.body.maps(2 * images - 1)
        missed = []
        for made in (whole, narrow):
            lean.shrink(made, reader, images)
            missed.append(float((made.body.maps(images) - maps).pow(2).mean() / maps.var()))
            logits, regions = made(images)
            assert logits.shape == (6, 20, 11)
            assert regions is not None
            assert regions.shape == (6, 3)
    assert all(value.equal(teaches[name]) for name, value in reader.state_dict().items())
    assert missed[0] < missed[1] < 1
    assert missed[0] < (0.2 if gates else 0.4)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A plate reader's checkpoint: the published net, of three regions."""
    torch = with_torch(published=True)
    from training import ppocr
    from training.plates_data import ALPHABET

    torch.manual_seed(1)
    reader = ppocr.Reader(ALPHABET, regions=3)
    torch.save({"average": reader.state_dict(), "regions": ["de", "gb", "us"]}, tmp_path / "teacher.pt")
    return tmp_path / "teacher.pt"


def test_the_lean_plate_reader_learns_what_its_teacher_says(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from training import ppocr
    from training.config import LEAN_PLATE_READER
    from training.lean_plate_reader import LeanPlateReaderTask
    from training.plate_reader import Sample

    def batches(rng: np.random.Generator, size: int) -> Iterator[list[Sample]]:
        cells = rng.integers(0, 256, (4, 6, 20, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
        while True:
            yield [Sample(cells[0], "AB12", 1), Sample(cells[1], "", -100), Sample(cells[2], "7", 0)]

    given = {"start": str(teacher), "steps": 10, "warmup": 1, "every": 10, "workers": 0}
    task = LeanPlateReaderTask(
        tmp_path, tmp_path / "work", LEAN_PLATE_READER.settle(tmp_path / "work", given)
    )
    crops = [np.full((48, 160, 3), gray, np.uint8) for gray in (20, 200)]
    noise = np.random.default_rng(1).integers(0, 256, (6, 48, 160, 3), dtype=np.uint8)
    monkeypatch.setattr(task, "_crops", lambda count: [*crops, *noise])
    monkeypatch.setattr(task, "batches", batches)
    monkeypatch.setattr(task, "figures", lambda net: {})
    vars(task)["training"] = []
    cutters: list[Any] = []

    def cut_all(run: Any, plates: Any) -> list[Any]:
        cutters.append(run)
        return []

    monkeypatch.setattr("training.plate_reader.cut_all", cut_all)
    learned = losses(task, monkeypatch)
    said, _ = cutters[0]([noise[0]])
    with torch.no_grad():
        expected, _ = task.teacher.reader(ppocr.to_input([noise[0]]))
    np.testing.assert_allclose(said, expected.numpy(), atol=1e-4)
    assert len(learned) == 10
    assert learned[0].keys() == {"same", "hint", "same_region", "text", "region"}
    assert learned[-1]["same"] < learned[0]["same"] / 2
    assert learned[-1]["hint"] < learned[0]["hint"]
    assert {name for name, value in task.trained.named_parameters() if not value.requires_grad} == {
        f"body.stem{part}.{kind}"
        for part in ("1", "2", "3", "4", "4b", "5")
        for kind in ("weight", "bias")
        if (part, kind) != ("4b", "bias")
    }


def test_where_the_teacher_is_sure_its_text_counts_whatever_the_step(
    teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from training import lean
    from training.plates_data import ALPHABET

    logits = torch.zeros(3, 20, 1 + len(ALPHABET))
    logits[0, :, 0] = 12
    for step, character in ((3, "A"), (7, "A"), (8, "1")):
        logits[0, step, 0] = 0
        logits[0, step, 1 + ALPHABET.index(character)] = 12
    logits[1] = logits[0] / 4
    logits[2] = logits[0].roll(5, 0)
    assert lean.sure_texts(logits, ALPHABET) == ["AA1", "", "AA1"]
    assert lean.sure_texts(logits, ALPHABET, longest=2) == ["", "", ""]

    asked = lean.Teacher(lean.read_reader(str(teacher), ALPHABET))
    pupil = lean.LeanReader(ALPHABET, 3, [8] * 13)
    images = torch.rand(3, 3, 48, 160)
    _, named, seen = pupil(images)
    assert "sure_text" not in asked.terms((logits, named, seen), images, 1.0, text=1.0)
    monkeypatch.setattr(lean, "sure_texts", lambda *_: ["AA1", "", "AA1"])
    right = asked.terms((logits, named, seen), images, 1.0, text=3.0)["sure_text"]
    assert right.item() == pytest.approx(0, abs=1e-2)
    monkeypatch.setattr(lean, "sure_texts", lambda *_: ["AA1", "", "AB1"])
    assert asked.terms((logits, named, seen), images, 1.0, text=3.0)["sure_text"] > 1


def test_what_is_found_in_photos_taken_anew_is_cut_as_the_product_cuts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_torch()
    from carsight import runtime
    from carsight.photo import decode
    from carsight.plate.reader import PlateReader
    from training import lean_plate_reader
    from training.lean_plate_reader import Found

    monkeypatch.setattr(lean_plate_reader, "_KEPT", 2)
    folder = tmp_path / "plates" / "photos"
    folder.mkdir(parents=True)
    photo = Path(__file__).resolve().parents[1] / "data" / "plate_us.jpg"
    (folder / photo.name).write_bytes(photo.read_bytes())
    label = {"image": photo.name, "split": "train", "plates": []}
    (folder / "labels.jsonl").write_text(json.dumps(label) + "\n")
    found, rng = Found(tmp_path), np.random.default_rng(1)
    crops = [found.draw(rng, False) for _ in range(8)]
    assert {crop.shape for crop in crops} == {(48, 160, 3)}
    assert len({crop.tobytes() for crop in crops}) == 8
    assert found.draw(rng, True).shape == (48, 224, 3)
    for _ in range(4):
        found._cut(decode(photo.read_bytes()).pixels, rng)
    assert len(found._kept[False]) == 2
    reader = PlateReader(runtime.session(runtime.MODELS / "plate_reader.onnx"))
    assert sum(reading.text == "7kmr204" for reading in reader.read(crops)) >= 4


def test_a_lean_plate_reader_needs_a_plate_reader(tmp_path: Path) -> None:
    with_torch()
    from training.config import LEAN_PLATE_READER
    from training.lean_plate_reader import LeanPlateReaderTask

    with pytest.raises(SystemExit, match="name its checkpoint, --start"):
        LeanPlateReaderTask(tmp_path, tmp_path, LEAN_PLATE_READER).teacher  # noqa: B018


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # Torch's, as it exports
def test_the_lean_vin_reader_says_of_small_text_what_its_teacher_says_of_it_larger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = with_torch(published=True)
    from carsight.vin.rules import ALPHABET
    from training import ppocr
    from training.config import LEAN_VIN_READER
    from training.lean_vin_reader import LeanVinReaderTask
    from training.small_vin_reader import Lesson

    torch.manual_seed(1)
    start = tmp_path / "teacher.pt"
    torch.save({"average": ppocr.Reader(ALPHABET).state_dict()}, start)
    (tmp_path / "pool").mkdir()
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (9, 6, 48, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    vin = "1M8GDM9AXKP042788"
    Lesson(pixels, np.stack([_said(vin)] * 8 + [_said("")]), np.array([""] * 8 + ["wvwzzz1kz7m047185"])).save(
        tmp_path / "pool" / "1-0000-384.npz"
    )
    given = {"start": str(start), "steps": 8, "batch": 5, "rate": 5e-5, "warmup": 1, "every": 8, "real": 0.0}
    task = LeanVinReaderTask(tmp_path, tmp_path, LEAN_VIN_READER.settle(tmp_path, given | {"workers": 0}))
    vars(task)["training"] = []
    monkeypatch.setattr(task, "figures", lambda net: {})
    drawn = task._crops
    monkeypatch.setattr(task, "_crops", lambda count: drawn(min(count, 12)))
    batch = next(task.batches(rng, 0))
    assert batch.pixels.shape == batch.clear.shape == (5, 3, 48, 384)
    apart = (batch.pixels - batch.clear).abs().mean((1, 2, 3))
    assert (apart[:2] > 0).all()
    assert [len(text) for text in batch.texts[:2]] == [17, 17]
    assert set(batch.texts[2:]) == {vin}
    assert (apart[2:] < 0.003).any()  # but for where the two views met
    monkeypatch.setattr(task, "batches", lambda *_: iter([batch] * 9))
    learned = losses(task, monkeypatch)
    assert len(learned) == 8
    assert learned[0].keys() == {"same", "hint", "text"}
    assert learned[-1]["same"] < 0.7 * learned[0]["same"]
    assert learned[-1]["hint"] < learned[0]["hint"]
    out = tmp_path / "lean.onnx"
    monkeypatch.setattr(task, "judge", lambda model: {})
    task.export(out)
    read = task.recovered(out)
    assert sorted(read.state_dict()) == sorted(task.net().state_dict())


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # Torch's, as it exports
def test_the_reader_of_hard_lines_learns_struck_ones_and_is_quantized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = with_torch(published=True)
    from training import vin_reader
    from training.config import HARD_VIN_READER
    from training.render_vins import photograph_line

    torch.manual_seed(1)
    given = {"steps": 6, "batch": 5, "rate": 5e-5, "warmup": 1, "every": 6, "real": 0.0, "struck": 1.0}
    config = HARD_VIN_READER.settle(tmp_path, given | {"workers": 0})
    task = vin_reader.HardVinReaderTask(tmp_path, tmp_path, config)
    vars(task)["training"] = []
    kinds: list[str | None] = []

    def noted(rng: np.random.Generator, lower: bool = False, kind: str | None = None) -> Any:
        kinds.append(kind)
        return photograph_line(rng, lower, kind)

    monkeypatch.setattr(vin_reader, "photograph_line", noted)
    monkeypatch.setattr(task, "figures", lambda net: {})
    monkeypatch.setattr(task, "judge", lambda model: {})
    batch = next(task.batches(np.random.default_rng(1), 0))
    assert kinds == ["stamped"] * 5
    monkeypatch.setattr(task, "batches", lambda *_: iter([batch] * 9))
    learned = losses(task, monkeypatch)
    assert learned[-1]["text"] < learned[0]["text"]
    out = tmp_path / "hard.onnx"
    crops = iter(batch[0])
    vars(task)["training"] = batch[0]
    monkeypatch.setattr(vin_reader, "best_cut", lambda *_: next(crops))
    task.export(out)
    assert out.stat().st_size < 0.45 * (tmp_path / "float.onnx").stat().st_size
    wanted, found = task.trained.state_dict(), task.recovered(out).state_dict()
    assert wanted.keys() == found.keys()
    weight = "body.blocks.5.expand.weight"
    steps = wanted[weight].abs().amax((1, 2, 3), keepdim=True) / 64
    assert ((wanted[weight] - found[weight]).abs() <= 0.51 * steps).all()


# -- the small VIN reader ------------------------------------------------------------------------------------


def _said(text: str, sureness: float = 9.0) -> Any:
    """Return logits (48 x 34) that say ``text``, a character every other step."""
    from carsight.vin.rules import ALPHABET

    logits = np.zeros((48, 34), np.float16)
    logits[:, 0] = sureness
    for place, character in enumerate(text):
        logits[2 * place + 1, 0] = 0.0
        logits[2 * place + 1, ALPHABET.index(character) + 1] = sureness
    return logits


def test_the_small_vin_reader_learns_what_the_large_one_says_and_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_torch()
    from training.config import SMALL_VIN_READER
    from training.small_vin_reader import Lesson, SmallVinReaderTask

    vin, lower = "1M8GDM9AXKP042788", "WVWZZZ1KZ7M047185"
    pixels = np.repeat(np.random.default_rng(1).integers(0, 256, (2, 48, 384, 3), dtype=np.uint8), 4, axis=0)
    logits = np.stack([_said(vin)] * 4 + [np.zeros((48, 34), np.float16)] * 4)
    (tmp_path / "pool").mkdir()
    Lesson(pixels, logits, np.array([""] * 4 + [lower] * 4)).save(tmp_path / "pool" / "1-0000-384.npz")
    config = SMALL_VIN_READER.settle(tmp_path, {"steps": 60, "batch": 8, "warmup": 1, "every": 60})
    task = SmallVinReaderTask(tmp_path, tmp_path, config)
    monkeypatch.setattr(task, "figures", lambda net: {})
    sums = losses(task, monkeypatch)
    assert len(sums) == 60
    assert sums[-1]["same"] < sums[0]["same"] / 1.5
    assert sums[-1]["text"] < sums[0]["text"] / 2


def test_the_reader_of_lower_case_learns_drawn_lines_but_for_its_first_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_torch()
    from training import render_screens
    from training.config import LOWER_VIN_READER
    from training.lower_vin_reader import LowerVinReaderTask

    config = LOWER_VIN_READER.settle(tmp_path, {"steps": 60, "batch": 8, "warmup": 1, "every": 60})
    task = LowerVinReaderTask(tmp_path, tmp_path, config)
    taught, held_out = (set(render_screens.text_fonts(held_out=each)) for each in (False, True))
    assert taught
    assert not taught & held_out
    batch = next(task.stream(np.random.default_rng(1), 8))
    assert batch.pixels.shape == (8, 48, 384, 3)
    assert [len(text) for text in batch.texts].count(17) >= 2
    assert min(pixels.std() for pixels in batch.pixels) > 5  # there is something to read
    monkeypatch.setattr(task, "figures", lambda net: {})
    monkeypatch.setattr(task, "batches", lambda *_: iter([batch] * 99))
    sums = losses(task, monkeypatch)
    assert sums[-1]["text"] < sums[0]["text"] / 2
    net = task.net()
    task.prepare(net)
    learning = [any(each.requires_grad for each in layer.parameters()) for layer in net.body]
    assert learning == [False] * 3 + [True] * 10


def test_lines_that_the_large_reader_cannot_read_are_mostly_left_out() -> None:
    with_torch()
    from training.config import SMALL_VIN_READER
    from training.small_vin_reader import Lesson, SmallVinReaderTask, clearness

    count = 400
    logits = np.stack([_said("1M8GDM9AXKP042788")] * count + [_said("1M8GDM9AXKP042788", 1.0)] * count)
    lesson = Lesson(np.zeros((2 * count, 1, 1, 3), np.uint8), logits, np.array([""] * 2 * count))
    assert clearness(lesson)[0] > -0.2
    assert clearness(lesson)[-1] < -3.5
    chosen = SmallVinReaderTask(Path(), Path(), SMALL_VIN_READER).chosen(lesson, np.random.default_rng(1))
    assert (chosen < count).sum() == count
    assert 0.05 * count < (chosen >= count).sum() < 0.3 * count


# -- more regions --------------------------------------------------------------------------------------------


def test_new_regions_take_no_plate_of_those_that_are_known() -> None:
    torch = with_torch()
    from training.add_regions import learn

    torch.manual_seed(0)
    target = torch.arange(3000) % 3  # of 0 and 1, which are known, and 2
    seen = torch.randn(3000, 8)
    seen[torch.arange(3000), target] += 6
    known = torch.stack([seen[:, 0] - 3, seen[:, 1] - 3], 1)
    rows = learn(seen, known, target, 1, temperature=0.8)
    named = torch.cat([known, rows(seen)], 1).argmax(1)
    assert (named == target).float().mean() > 0.98
    assert (named[target < 2] == 2).float().mean() < 0.01


def test_a_model_that_learns_more_regions_answers_as_before_of_those_it_knew(tmp_path: Path) -> None:
    with_torch()
    from carsight import runtime
    from training.add_regions import add

    crops = [np.full((48, 160, 3), shade, np.uint8) for shade in (40, 200)]
    name = "plate_reader_lean.onnx"
    path = tmp_path / name
    path.write_bytes((runtime.MODELS / name).read_bytes())
    add(path, ["aq", "xx"], [(crops[0], "aq"), (crops[1], "xx"), (crops[1], "gb"), (crops[0], "de")] * 10)
    before, after = (
        session.run(["logits", "regions"], {"image": runtime.picture_input(session)(crops[:1])})
        for session in (runtime.session(runtime.MODELS / name), runtime.session(path))
    )
    assert np.array_equal(before[0], after[0])
    assert after[1].shape[1] == before[1].shape[1] + 2
    np.testing.assert_allclose(after[1][:, :-2], before[1], atol=1e-4)
    assert json.loads(runtime.session(path).get_modelmeta().custom_metadata_map["regions"])[-2:] == [
        "aq",
        "xx",
    ]


def test_where_no_region_is_new_that_is_said_before_anything_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_torch()
    from carsight import runtime
    from training import add_regions

    model = runtime.MODELS / "plate_reader.onnx"
    monkeypatch.setattr("sys.argv", ["add_regions", str(model), "--data", "no-such-folder"])
    with pytest.raises(SystemExit, match="names every region"):
        add_regions.main()
