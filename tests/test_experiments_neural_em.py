"""Chapter 8's recorded runs: curves and best weights that survive, scores with the right frames, variants."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib import image as image_file
from torch import nn

from nemlib import training
from nemlib.evaluate import clustering
from nemlib.experiments import catalogue, cli, results, runs, watch
from nemlib.experiments import neural_em as chapter_8
from nemlib.neural_em import Steps

NAMES = tuple(experiment.name for experiment in chapter_8.EXPERIMENTS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> dict[str, Path]:
    """Every experiment's smoke run, trained and recorded once for all tests of this file."""
    place = tmp_path_factory.mktemp("neural-em")
    (place / "results").mkdir()
    shutil.copy(results.folder() / "published.toml", place / "results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEMLIB_RESULTS", str(place / "results"))
        patch.setenv("NEMLIB_QUIET", "1")
        patch.setattr(watch, "curve_names", lambda history: [])      # pictures without curves: half the time
        found = {}
        for name in NAMES:
            found[name] = place / "runs" / name
            runs.train(runs.Request(catalogue.find(name), "smoke", 0, "cpu", found[name]))
            runs.record(found[name], replace_other=False)
    return found


@pytest.fixture
def place(finished, monkeypatch) -> Path:
    """The folder of those results."""
    folder = finished[NAMES[0]].parent.parent / "results"
    monkeypatch.setenv("NEMLIB_RESULTS", str(folder))
    monkeypatch.setenv("NEMLIB_QUIET", "1")
    return folder


# --- each experiment from one end to the other --------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_smoke_run_leaves_metrics_a_coloured_picture_and_weights(name, finished, place):
    run = results.Run.read(finished[name] / "result.json")
    assert {"ami_arithmetic", "ami_max", "loss"} <= {key.split(" / ")[-1] for key in run.metrics}
    for metric in run.metrics.values():
        assert math.isfinite(metric.value)
        assert "test images" in metric.protocol or "test sequences" in metric.protocol
    picture = image_file.imread(finished[name] / "picture.png")[..., :3]
    assert (picture.max(-1) - picture.min(-1)).max() > 0.2, "γ is shown in colour"
    trained = runs.open_run(finished[name])
    shown = trained.experiment.sample(trained.built, trained.settings, 3, torch.Generator().manual_seed(0))
    assert shown.dim() == 4 and shown.shape[0] == 3 and shown.shape[-1] == 3
    assert 0 <= shown.min() and shown.max() <= 1


@pytest.mark.parametrize("name", ["shapes-published", "shapes-ablations", "flying-mnist"])
def test_shipped_weights_give_the_recorded_metrics_again(name, finished, place):
    recorded = runs.open_run(place / name / "smoke-seed0.json")
    again = runs.measure(recorded.experiment, "smoke", recorded.built, torch.device("cpu"), 0)
    assert {key: metric.value for key, metric in again.items()} == {
        key: metric.value for key, metric in recorded.measured.items()}
    weights = dict(recorded.built.learner.module.named_parameters())
    with torch.no_grad():
        for weight in weights.values():
            weight.mul_(3).add_(0.1)      # a mutant: other weights, other numbers
    other = runs.measure(recorded.experiment, "smoke", recorded.built, torch.device("cpu"), 0)
    assert other["loss" if "loss" in other else "base / loss"] != again[
        "loss" if "loss" in again else "base / loss"]


def test_a_resumed_run_ends_as_an_unbroken_one(finished, tmp_path, monkeypatch):
    """Curves, the best weights and the last ones, to the last bit."""
    monkeypatch.setenv("NEMLIB_QUIET", "1")
    show = watch.Watcher.__call__

    def interrupted(self, learner, history, context):
        show(self, learner, history, context)
        if learner.module.record.steps.count_nonzero() == 1 and context.step == 3:
            raise KeyboardInterrupt

    experiment = catalogue.find("shapes-published")
    request = runs.Request(experiment, "smoke", 0, "cpu", tmp_path / "run")
    reports = replace(experiment.build(experiment.presets["smoke"], 0).training, report_every=1)
    monkeypatch.setattr(chapter_8, "loop_settings", lambda *settings: reports)
    monkeypatch.setattr(watch.Watcher, "__call__", interrupted)
    with pytest.raises(runs.Interrupted, match="step 2"):
        runs.train(request)
    monkeypatch.setattr(watch.Watcher, "__call__", show)
    resumed = runs.train(request, resume=True)
    whole = results.Run.read(finished["shapes-published"] / "result.json")
    assert resumed.metrics == whole.metrics
    expected = whole.load_weights()
    assert {"best.encoder.weight", "record.values", "encoder.weight"} <= set(expected)
    assert expected["record.steps"].tolist() == [2, 4]
    for name, tensor in resumed.load_weights().items():
        assert torch.equal(tensor, expected[name]), name


# --- the learner: curves and the best weights ---------------------------------------------------------------


def small_learner(keep_best: bool = True, evaluations: int = 3) -> chapter_8.RecordedGrouping:
    settings = chapter_8.PUBLISHED["smoke"]
    optimisation = replace(settings.optimisation, steps=evaluations, keep_best=keep_best)
    model = chapter_8.make_network(settings.network, 28, 28, 0.1)
    return chapter_8.make_learner(model, optimisation, replace(settings.evaluation, every=1))


def test_the_weights_of_the_lowest_validation_loss_are_kept():
    learner = small_learner()
    model = learner.module
    for step, loss in enumerate([5.0, 3.0, 4.0], start=1):
        with torch.no_grad():
            model.decoder.bias.fill_(step)
        learner.at = step
        learner.keep({"loss": torch.tensor(loss), **dict.fromkeys(chapter_8.SCORES, torch.tensor(loss / 10))})
    assert (model.best.decoder.bias == 2).all() and (model.decoder.bias == 3).all()
    steps, values = model.record.curves()["ari"]
    assert steps.tolist() == [1, 2, 3] and values.tolist() == pytest.approx([0.5, 0.3, 0.4])
    assert not any(weight.requires_grad for weight in model.best.parameters())
    groups = learner.optimizers["optimizer"].param_groups
    assert not {id(weight) for group in groups for weight in group["params"]} & {
        id(weight) for weight in model.best.parameters()}


def test_a_record_keeps_each_step_once():
    record = chapter_8.Record(2, ("loss",))
    for step, value in [(10, 1.0), (10, 9.0), (5, 9.0), (20, 2.0), (30, 9.0)]:
        record.add(step, {"loss": value})
    steps, values = record.curves()["loss"]
    assert steps.tolist() == [10, 20] and values.tolist() == [1.0, 2.0]


def test_an_evaluation_outside_training_is_not_recorded():
    learner = small_learner(keep_best=False)
    images = (torch.rand(4, 28, 28, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    held_out = {"images": images, "groups": images.long()}
    values = training.evaluate(learner, held_out, device="cpu")
    assert set(values) == set(chapter_8.CURVES) and learner.module.record.steps.count_nonzero() == 0
    assert not hasattr(learner.module, "best")


def test_the_validation_sees_the_noise_of_the_setting():
    """The published selection leaves the noise on: without it the same weights have another loss."""
    learner = small_learner()
    images = (torch.rand(20, 28, 28, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    held_out = {"images": images, "groups": images.long()}
    with torch.no_grad():
        learner.module.encoder.weight.mul_(20)
    noisy = training.evaluate(learner, held_out, device="cpu")["loss"]
    learner.noise = 0.0
    assert training.evaluate(learner, held_out, device="cpu")["loss"] != noisy


# --- the networks -------------------------------------------------------------------------------------------


def test_tensorflows_initialisation_has_its_reach():
    model = chapter_8.make_network(chapter_8.PUBLISHED_NETWORK, 28, 28, 0.1)
    hidden, pixels = 250, 784
    reach = math.sqrt(6 / (pixels + 2 * hidden))       # one matrix for both, (pixels + hidden, hidden)
    for weight in (model.encoder.weight, model.recurrence.weight):
        assert 0.99 * reach < weight.abs().max() <= reach
    decoder_reach = math.sqrt(6 / (pixels + hidden))
    assert 0.99 * decoder_reach < model.decoder.weight.abs().max() <= decoder_reach
    assert not model.decoder.bias.any() and not model.recurrence.bias.any()
    ours = chapter_8.make_network(chapter_8.Network(), 28, 28, 0.1)
    assert (ours.decoder.bias == -2).all() and ours.recurrence.bias.any()


def test_the_networks_follow_their_settings():
    network = chapter_8.Network(hidden=8, decoder="layered", decoder_features=5, inputs="masked",
                                kl_weight=0.5)
    model = chapter_8.make_network(network, 28, 28, 0.3)
    assert model.decoder(torch.zeros(2, 8)).shape == (2, 784) and (model.decoder[-1].bias == -2).all()
    assert (model.inputs, model.kl_weight, model.noise) == ("masked", 0.5, 0.3)
    convolutional = replace(network, decoder="convolutional", channels=(2, 3))
    assert chapter_8.make_decoder(convolutional, 28, 28)(torch.zeros(2, 8)).shape == (2, 784)
    tied = chapter_8.make_network(chapter_8.Network(kind="N-EM", hidden=8, step_size=0.5), 28, 28, 0.1)
    assert type(tied).__name__ == "NeuralEM" and tied.log_step_size.exp().item() == pytest.approx(0.5)
    for wrong, says in ((replace(network, kind="EM"), "EM"), (replace(network, decoder="deep"), "deep")):
        with pytest.raises(ValueError, match=says):
            chapter_8.make_network(wrong, 28, 28, 0.1)


def test_layer_norm_touches_the_output_alone():
    """σ(LN(a)) from θ = σ(a), as `build_network` of the authors' code wraps the cell; θ itself recurs."""
    torch.manual_seed(0)
    a = 2 * torch.randn(5, 16)
    layer = chapter_8.NormalisedOutput(16)
    expected = nn.functional.layer_norm(a, (16,)).sigmoid()
    assert torch.allclose(layer(a.sigmoid()), expected, atol=1e-5)
    mutant = nn.functional.layer_norm(a.sigmoid(), (16,)).sigmoid()       # of θ instead of a
    assert not torch.allclose(layer(a.sigmoid()), mutant, atol=1e-2)
    model = chapter_8.make_sequence_network(chapter_8.FLYING_SHAPES["smoke"])
    assert isinstance(model.activation, nn.Sigmoid)
    flat = chapter_8.make_sequence_network(chapter_8.FLYING_MNIST["book"])
    assert type(flat.decoder) is type(flat.encoder) is nn.Linear and flat.theta_noise == 0.25
    assert isinstance(model.decoder[0], chapter_8.NormalisedOutput)


def test_a_normalised_input_has_mean_0_and_deviation_1_and_survives_an_empty_slot():
    signal = 3 + 5 * torch.randn(4, 576, generator=torch.Generator().manual_seed(0))
    signal[2] = 0
    found = chapter_8.NormalisedInput()(signal)
    assert torch.isfinite(found).all() and not found[2].any()
    assert torch.allclose(found[0].mean(), torch.tensor(0.0), atol=1e-5)
    assert torch.allclose(found[0].std(unbiased=False), torch.tensor(1.0), atol=1e-3)


# --- measuring ----------------------------------------------------------------------------------------------


class Oracle(nn.Module):
    """Its γ after step t is the true grouping of frame t + `late`; other pixels are dealt out at random."""

    def __init__(self, groups: torch.Tensor, late: int) -> None:
        super().__init__()
        self.groups, self.late, self.row = groups, late, 0

    def forward(self, images, slots, steps, generator, noise):
        owners = self.groups[self.row:self.row + len(images)]
        self.row += len(images)
        gamma = torch.stack([nn.functional.one_hot(owners[:, max(0, t - 1 + self.late)], slots).movedim(-1, 1)
                             for t in range(steps + 1)]).float()
        loss = torch.arange(float(steps))[:, None].expand(-1, len(images))
        return Steps(gamma, gamma, torch.zeros(()), loss, loss, loss, 2 * loss)


def test_sequences_are_scored_against_the_frame_that_a_step_has_explained():
    groups = torch.randint(0, 3, (5, 4, 6, 6), generator=torch.Generator().manual_seed(0))
    images = (groups > 0).float()
    evaluation = chapter_8.sequence_evaluation(1, 3, 4)
    found = {late: chapter_8.score_sequences(Oracle(groups, late), images, groups, evaluation, 0.0,
                                             torch.Generator(), batch_size=2) for late in (1, 0)}
    assert found[1]["ari"].shape == (5, 3)
    assert (found[1]["ari"] == 1).all() and (found[1]["ami_max"] == 1).all()
    assert (found[0]["ari"] < 0.9).all(), "a score that compares with the frame before would not see it"
    assert found[1]["loss"][3].tolist() == [0, 1, 2] and found[1]["prediction"][3].tolist() == [0, 2, 4]
    metrics = chapter_8.sequence_metrics(found[1] | {"ari": torch.tensor([[0.0, 0.5], [0.5, 1.0]])}, "p", "")
    assert metrics["ari"].value == 0.5 and metrics["last_ari"].value == 0.75
    assert metrics["prediction"].value == 2.0 and metrics["loss"].unit == "nats per frame"


def test_the_parts_with_and_without_overlap_make_the_whole():
    model = chapter_8.make_network(chapter_8.Network(hidden=8), 28, 28, 0.1)
    test = chapter_8.data.static_shapes("test", 40)
    with torch.no_grad():
        found = chapter_8.score_shapes(model, test.images, test.groups, chapter_8.Evaluation(em_steps=2), 0.0,
                                       torch.Generator().manual_seed(0), "p")
    overlap = clustering.split_by_overlap(test.images, test.groups)
    share = overlap.double().mean().item()
    assert 0.3 < share < 1
    for name in ("ami_arithmetic", "ari"):
        parts = share * found[f"{name}_overlap"].value + (1 - share) * found[f"{name}_apart"].value
        assert found[name].value == pytest.approx(parts)
    assert "without overlap" in found["ari_apart"].protocol


def test_the_start_with_the_lowest_loss_is_taken_image_by_image():
    values = {"loss": torch.tensor([[1.0, 5.0, 3.0], [2.0, 4.0, 3.5]]),
              "ari": torch.tensor([[0.1, 0.9, 0.3], [0.8, 0.2, 0.7]])}
    chosen = chapter_8.of_lowest_loss(values)
    assert chosen["loss"].tolist() == [1.0, 4.0, 3.0] and chosen["ari"].tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_several_starts_have_metrics_of_their_own():
    settings = replace(chapter_8.OURS["smoke"], evaluation=chapter_8.SeveralStarts(2, em_steps=2, starts=3))
    built = chapter_8.build_shapes(settings, 0)
    with torch.no_grad():
        found = chapter_8.measure_shapes(built, settings, torch.device("cpu"), 0)
    assert {"best_of_starts_ami_max", "best_of_starts_ari_apart", "best_of_starts_loss"} <= set(found)
    assert found["best_of_starts_loss"].value < found["loss"].value
    assert "lowest loss of 3 random starts" in found["best_of_starts_ami_max"].protocol
    assert "one random start" in found["ami_max"].protocol


def test_starts_of_every_kind_are_divisions_of_the_pixels():
    random = torch.Generator().manual_seed(0)
    spreads = {}
    for kind in chapter_8.Sweeps().starts:
        gamma = chapter_8.starting_gamma(kind, 2, 4, random)
        assert gamma.shape == (2, 4, 28, 28) and torch.allclose(gamma.sum(1), torch.ones(2, 28, 28))
        spreads[kind] = gamma.std(1).mean().item()
    assert 0 == spreads["uniform"] < spreads["almost uniform"] < spreads["random"]
    assert spreads["random"] < spreads["one slot a pixel"]
    with pytest.raises(ValueError, match="striped"):
        chapter_8.starting_gamma("striped", 2, 4, random)


# --- variants, and reading what was recorded ----------------------------------------------------------------


def test_a_variant_changes_what_it_names_and_nothing_else():
    settings = chapter_8.ABLATIONS["full"]
    for variant in settings.variants:
        own = settings.of(variant)
        for part in ("network", "optimisation", "shapes", "evaluation"):
            before, after = vars(getattr(settings, part)), vars(getattr(own, part))
            changed = {f"{part}.{name}" for name in before if before[name] != after[name]}
            assert changed == {place for place in variant.changes if place.startswith(f"{part}.")}
    assert settings.variants[0].changes == {} and len({one.name for one in settings.variants}) == len(
        settings.variants)
    built = chapter_8.build_ablations(chapter_8.ABLATIONS["smoke"], 0)
    first, second = built.learner.module
    assert torch.equal(first.encoder.weight, second.encoder.weight), "all variants begin with the same draws"


def test_losses_of_all_variants_are_the_same_quantity():
    """Without its KL term in training, a variant would be measured by another, lower loss."""
    settings = replace(chapter_8.ABLATIONS["smoke"], variants=(
        chapter_8.Variant("base", {}), chapter_8.Variant("no KL term", {"network.kl_weight": 0.0})))
    built = chapter_8.build_ablations(settings, 0)
    with torch.no_grad():
        found = chapter_8.measure_ablations(built, settings, torch.device("cpu"), 0)
    assert found["no KL term / loss"].value == found["base / loss"].value      # untrained: the same weights


def test_variants_are_trained_apart():
    """A step moves every variant with its own optimizer, and as it would move alone on the same noise."""
    settings = chapter_8.ABLATIONS["smoke"]
    built = chapter_8.build_ablations(settings, 0)
    before = [model.decoder.bias.clone() for model in built.learner.module]
    history = training.train(built.learner, built.data, replace(built.training, steps=1), device="cpu",
                             progress=False)
    assert all((model.decoder.bias != old).any() for model, old in zip(built.learner.module, before))
    assert {f"loss, {variant.name}" for variant in settings.variants} <= set(history.names)


def test_recorded_networks_curves_and_sweeps_are_read_back(place):
    best = chapter_8.trained("shapes-published", "smoke")
    weights = results.load("shapes-published", "smoke").weights()
    assert torch.equal(best.encoder.weight, weights["best.encoder.weight"]) and not best.training
    steps, values = chapter_8.curves("shapes-published", "smoke")["ami_max"]
    assert steps.tolist() == [2, 4] and values.shape == (2,)
    assert "prediction" in chapter_8.curves("flying-shapes", "smoke")
    assert chapter_8.trained("flying-mnist", "smoke").likelihood == "gaussian"
    variant = chapter_8.ABLATIONS["smoke"].variants[1]
    second = chapter_8.trained("shapes-ablations", "smoke", variant=variant.name)
    kept = results.load("shapes-ablations", "smoke").weights()
    assert second.inputs == variant.changes["network.inputs"]
    assert torch.equal(second.decoder.bias, kept["1.decoder.bias"].float())
    assert len(chapter_8.curves("shapes-ablations", "smoke", variant=variant.name)["loss"][0]) == 2
    table = chapter_8.table("loss", "smoke")
    assert list(table) == [one.name for one in chapter_8.ABLATIONS["smoke"].variants]
    for what in ("slots", "steps", "noise", "start", "lowest loss of", "best of"):
        values, means = chapter_8.sweep(what, preset="smoke")
        assert len(values) == len(means) >= 2
    _, best = chapter_8.sweep("best of", preset="smoke")
    _, lowest = chapter_8.sweep("lowest loss of", preset="smoke")
    assert best[0] == lowest[0] and best[1] >= max(best[0], lowest[1])


def test_what_is_not_there_is_refused_by_name(place, monkeypatch):
    for call, says in (
        (lambda: chapter_8.trained("ising-prior", "smoke"), "none of this chapter's"),
        (lambda: chapter_8.trained("shapes-ablations", "smoke", variant="x"), "'x' came"),
        (lambda: chapter_8.curves("shapes-ablations", "smoke", variant="x"), "'x' came"),
        (lambda: chapter_8.sweep("colour", preset="smoke"), "'colour' came"),
    ):
        with pytest.raises(ValueError, match=says):
            call()
    changed = replace(chapter_8.N_EM["smoke"], evaluation=chapter_8.Evaluation(every=3))
    experiment = next(one for one in chapter_8.EXPERIMENTS if one.name == "shapes-nem")
    monkeypatch.setitem(experiment.presets, "smoke", changed)
    with pytest.raises(ValueError, match="train it again"):
        chapter_8.trained("shapes-nem", "smoke")


# --- what watchers see --------------------------------------------------------------------------------------


def test_pictures_in_colour_are_drawn_as_lists_and_as_tables(tmp_path):
    colours = torch.zeros(3, 8, 8, 3)
    colours[0, ..., 0], colours[1, ..., 1], colours[2, ..., 2] = 1, 1, 1
    watch.save_images(tmp_path / "list.png", colours)
    watch.draw(tmp_path / "table.png", colours.expand(30, 3, 8, 8, 3), training.History())
    for name in ("list.png", "table.png"):
        pixels = image_file.imread(tmp_path / name)[..., :3].reshape(-1, 3)
        for colour in torch.eye(3).numpy():
            assert (abs(pixels - colour).max(1) < 0.02).any(), f"{name} shows no pixel of {colour}"


def test_a_picture_shows_steps_in_rows_and_slots_in_columns():
    learner = small_learner()
    context = training.make_context(None, 0, "cpu", None)
    assert learner.picture(context) is None
    context.data = (torch.rand(5, 28, 28, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    table = watch.picture_of(learner, context)
    assert table.shape == (4, 2 * (2 + 4), 28, 28, 3)       # steps 0 to 3; two examples: image, γ, four ψ
    assert torch.equal(table[2, 0, ..., 0], context.data[0])
    assert torch.equal(table[0, 6, ..., 2], context.data[1])
    assert not table[0, 2:6].any(), "nothing is predicted before the first step"


def test_the_command_line_shows_a_run(finished, place, capsys, tmp_path):
    name = finished["shapes-ours"]
    assert cli.main(f"sample {name} --count 5 --device cpu --out {tmp_path / 'x.png'}".split()) == 0
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert cli.main(f"watch {name} --once".split()) == 0
    assert "evaluation_ami_max" in capsys.readouterr().out
