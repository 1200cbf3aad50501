from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preprocess.backbones import BATCH, LAYERS, load_backbone
from preprocess.decode import decode_clip
from preprocess.networks import BACKBONES
from preprocess.pipeline import Sampling
from preprocess.plain_loop import PlainLoop
from preprocess.torchvision_loading import import_torchvision
from seqbraid.errors import DataError, OptionsError, WeightsUnavailableError

SIZES = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "squeezenet1_1": 512}


def random_frames(count: int, size: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def plain_loop(network: torch.nn.Module, frames: np.ndarray) -> np.ndarray:
    """Compute the features frame by frame, as torchvision's documentation says it."""
    rows = []
    network.eval()
    for frame in frames:
        image = torch.tensor(frame, dtype=torch.float32).permute(2, 0, 1) / 255
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        image = (image - mean[:, None, None]) / std[:, None, None]
        with torch.no_grad():
            rows.append(network(image[None])[0].numpy())
    return np.stack(rows)


def test_torchvision_imports_in_a_fresh_process() -> None:
    script = """
import sys
from preprocess.torchvision_loading import import_torchvision
torchvision = import_torchvision()
assert import_torchvision() is torchvision is sys.modules["torchvision"]
print(torchvision.models.get_model("squeezenet1_1", weights=None).__class__.__name__)
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout.strip()) == (0, "SqueezeNet"), result.stderr


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("raise RuntimeError('some other trouble')", RuntimeError, "^some other trouble$"),
        ("raise ImportError('no torchvision here')", ImportError, "^no torchvision here$"),
        ("import a_module_that_is_missing", ModuleNotFoundError, "a_module_that_is_missing"),
    ],
)
def test_other_errors_of_torchvisions_import_pass_through(
    tmp_path: Path, line: str, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchvision.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(kind, match=message):
        import_torchvision()


@pytest.mark.parametrize("name", BACKBONES)
def test_sizes_of_both_layers(name: str) -> None:
    for layer, size in (("logits", 1000), ("pool", SIZES[name])):
        backbone = load_backbone(name, "random:0", layer)
        features = backbone.features(random_frames(2))
        assert features.shape == (2, size) == (2, backbone.feature_size)
        assert features.dtype == np.float32
        assert np.isfinite(features).all()


def test_features_agree_with_a_plain_loop_over_frames(squeezenet_weights: Path) -> None:
    frames = random_frames(9)
    network = import_torchvision().models.squeezenet1_1(weights=None)
    network.load_state_dict(torch.load(squeezenet_weights, weights_only=True))
    logits = load_backbone("squeezenet1_1", str(squeezenet_weights)).features(frames)
    np.testing.assert_allclose(logits, plain_loop(network, frames), rtol=1e-4, atol=1e-4)
    pool = load_backbone("squeezenet1_1", str(squeezenet_weights), "pool").features(frames)
    network.classifier = torch.nn.Identity()
    expected = plain_loop(network, frames).reshape(9, 512, -1).mean(2)
    np.testing.assert_allclose(pool, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module", params=BACKBONES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A backbone, and a file of weights for it whose batch norms do something, as in trained ones."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = import_torchvision().models.get_model(request.param, weights=None)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor, least, most in (
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.3, 0.3),
            ):
                assert tensor is not None
                tensor.uniform_(least, most, generator=generator)
    path = tmp_path_factory.mktemp("weights") / f"{request.param}.pth"
    torch.save(network.state_dict(), path)
    return request.param, str(path)


def require_the_plain_loops_features(
    name: str, weights: str, layer: str, video: Path, sampling: Sampling
) -> None:
    expected = PlainLoop(name, weights, layer).features(video, sampling)
    frames = decode_clip(video, **vars(sampling)).frames
    assert len(frames) == len(expected) > BATCH
    found = load_backbone(name, weights, layer).features(frames)
    largest = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * largest)
    # The frames are different enough for that to mean something.
    assert np.abs(np.diff(expected, axis=0)).max(1).min() > 1e-3 * largest


@pytest.mark.parametrize("layer", LAYERS)
def test_features_are_those_of_the_plain_loop(
    trained: tuple[str, str], layer: str, make_video: Callable[..., Path]
) -> None:
    video = make_video("a.avi", frames=20, size=(100, 70))
    require_the_plain_loops_features(*trained, layer, video, Sampling(frames=10, size=80, stride=2))


@pytest.mark.parametrize("layer", LAYERS)
def test_features_with_real_weights_are_those_of_the_plain_loop(
    squeezenet_weights: Path, layer: str, make_video: Callable[..., Path]
) -> None:
    video = make_video("a.avi", frames=10, size=(100, 70))
    sampling = Sampling(frames=10, size=96)
    require_the_plain_loops_features("squeezenet1_1", str(squeezenet_weights), layer, video, sampling)


def test_a_frames_features_depend_neither_on_threads_nor_on_other_frames(trained: tuple[str, str]) -> None:
    frames = random_frames(BATCH + 3, size=67)
    backbone = load_backbone(*trained)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(backbone.features(frames))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in (*results[1:], backbone.features(frames[::-1])[::-1]):
        np.testing.assert_array_equal(other, results[0])
    np.testing.assert_array_equal(backbone.features(frames[5:6]), results[0][5:6])


# Billions of multiplications with an addition each, for 224 x 224 pixels, as torchvision's page of models
# has them.
PUBLISHED = {"resnet18": 1.814, "resnet34": 3.664, "resnet50": 4.089, "squeezenet1_1": 0.349}


@pytest.mark.parametrize("name", BACKBONES)
def test_operations_are_twice_the_published_multiply_adds(name: str) -> None:
    assert load_backbone(name, "random:0").operations(224) == pytest.approx(2e9 * PUBLISHED[name], rel=0.01)


def test_a_batch_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=f"{BATCH - 1} frames; expected a batch of {BATCH}"):
        load_backbone("squeezenet1_1", "random:0").batch(random_frames(BATCH - 1))


def test_pooled_resnet_features_agree_with_a_hook() -> None:
    frames = random_frames(3)
    backbone = load_backbone("resnet18", "random:3", "pool")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = import_torchvision().models.resnet18(weights=None)
    pooled: list[torch.Tensor] = []
    network.avgpool.register_forward_hook(lambda module, given, result: pooled.append(result.flatten(1)))
    plain_loop(network, frames)
    np.testing.assert_allclose(backbone.features(frames), torch.cat(pooled), rtol=1e-4, atol=1e-4)


def test_real_weights_recognise_a_real_clip(squeezenet_weights: Path, shared_data: Path) -> None:
    frames = decode_clip(shared_data / "clips" / "mmaction2_demo.mp4", 4, 224).frames
    logits = load_backbone("squeezenet1_1", str(squeezenet_weights)).features(frames)
    # Trained scores stand far apart, and neighbouring frames show the same thing.
    assert logits.max() > 8
    assert len(set(logits.argmax(1).tolist())) <= 2


def test_no_frames_give_no_rows() -> None:
    assert load_backbone("squeezenet1_1", "random:0").features(random_frames(0)).shape == (0, 1000)


def test_random_weights_depend_on_their_seed_alone() -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    first = load_backbone("squeezenet1_1", "random:7")
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(10)
    again, other = load_backbone("squeezenet1_1", "random:7"), load_backbone("squeezenet1_1", "random:8")
    assert first.weights_sha256 == again.weights_sha256 != other.weights_sha256
    frames = random_frames(2)
    np.testing.assert_array_equal(first.features(frames), again.features(frames))


def save_random(path: Path, **changes: Any) -> Path:
    """Write resnet18's random:5 weights, with some entries changed (None: left out)."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        state = import_torchvision().models.resnet18(weights=None).state_dict()
    for key, value in changes.items():
        state[key.replace("__", ".")] = value
    torch.save({key: value for key, value in state.items() if value is not None}, path)
    return path


def test_equal_weights_have_equal_hashes_whatever_their_source(tmp_path: Path) -> None:
    path = save_random(tmp_path / "full.pth")
    counterless = save_random(tmp_path / "old.pth", bn1__num_batches_tracked=None)
    backbones = [load_backbone("resnet18", weights) for weights in ("random:5", str(path), str(counterless))]
    assert len({backbone.weights_sha256 for backbone in backbones}) == 1
    frames = random_frames(2)
    np.testing.assert_array_equal(backbones[0].features(frames), backbones[2].features(frames))
    # The pooled layer drops the classifier only after the weights were hashed.
    assert load_backbone("resnet18", str(path), "pool").weights_sha256 == backbones[0].weights_sha256


def test_a_weights_file_is_remembered_by_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_random(tmp_path / "w.pth")
    monkeypatch.chdir(tmp_path)
    described = load_backbone("resnet18", "w.pth").describe()
    assert described["weights"] == str((tmp_path / "w.pth").resolve())
    assert (described["backbone"], described["layer"]) == ("resnet18", "logits")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"layer1__0__conv2__weight": torch.zeros(2, 3)},
            r"layer1\.0\.conv2\.weight is \(2, 3\), .*\(64, 64,",
        ),
        ({"layer1__0__conv2__weight": None}, r"no layer1\.0\.conv2\.weight of shape \(64, 64, 3, 3\)"),
        ({"head__weight": torch.zeros(2)}, r"head\.weight is not part of resnet18"),
        ({"fc__bias": "text"}, r"fc\.bias is str"),
    ],
)
def test_weights_that_do_not_fit_name_the_first_entry(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = save_random(tmp_path / "w.pth", **changes)
    with pytest.raises(DataError, match=rf"w\.pth: {message}"):
        load_backbone("resnet18", str(path))


def test_another_networks_weights_are_refused(squeezenet_weights: Path) -> None:
    with pytest.raises(DataError, match=r"no conv1\.weight .* not resnet18's weights"):
        load_backbone("resnet18", str(squeezenet_weights))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("no weights"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)),
        lambda path: torch.save([1, 2], path),
    ],
)
def test_a_file_that_holds_no_weights_is_named_in_one_line(
    tmp_path: Path, write: Callable[[Path], object]
) -> None:
    write(tmp_path / "w.pth")
    with pytest.raises(DataError, match=r"w\.pth: (not a file of weights|holds a list)") as caught:
        load_backbone("resnet18", str(tmp_path / "w.pth"))
    assert "\n" not in str(caught.value)


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(OptionsError, match="resnet18, resnet34, resnet50, squeezenet1_1"):
        load_backbone("resnet19", "random:0")
    with pytest.raises(OptionsError, match="logits, pool"):
        load_backbone("resnet18", "random:0", "conv1")
    with pytest.raises(OptionsError, match="IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT, a file, or random:SEED"):
        load_backbone("resnet50", "IMAGENET1K_V9")
    for seed in ("", "x", "-1", str(2**63)):
        with pytest.raises(OptionsError, match="SEED must be a whole number"):
            load_backbone("resnet18", f"random:{seed}")


def test_a_failed_download_names_the_other_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy that refuses stands for every way to have no network.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsUnavailableError, match=r"`weights`.*`weights=random:SEED`") as caught:
        load_backbone("resnet18", "DEFAULT")
    assert "\n" not in str(caught.value)


def test_a_downloaded_file_is_taken_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = import_torchvision().models
    name = Path(models.get_model_weights("resnet18")["IMAGENET1K_V1"].url).name
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    save_random(tmp_path / "hub" / "checkpoints" / name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    backbone = load_backbone("resnet18", "IMAGENET1K_V1")
    assert backbone.weights == "IMAGENET1K_V1"
    assert backbone.weights_sha256 == load_backbone("resnet18", "random:5").weights_sha256
