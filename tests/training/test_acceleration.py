from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch._inductor.cpp_builder
from torch.nn import functional as F
from trainers import trainer

from metaloom.errors import MetaloomError
from metaloom.methods import METHOD_CLASSES, Episodes, Params, build_method
from metaloom.methods.protonet import ProtoNet
from metaloom.networks import NETWORKS
from metaloom.networks.layers import convolution, in_bfloat16, linear
from metaloom.system.device import tf32
from metaloom.training.acceleration import WORTH_COMPILING, loss_of, precision_of, repeatable
from metaloom.training.compiled import CompiledLoss

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
WITHOUT_PRODUCTS = ("linear", "identity", "whiten", "matrix")  # that could be in bfloat16
MULTIPLYING = [each for each in NETWORKS if each not in WITHOUT_PRODUCTS]


def made(name: str, network: str, settings, norm: str = "batch"):
    net = NETWORKS[network](shape=(1, 16, 16), width=8, norm=norm)
    method = build_method(name, net, settings.method(name).model_copy(update={"norm": norm}))
    torch.manual_seed(0)
    params = method.init(torch.Generator().manual_seed(0)).detached()
    own = method.training_weights(torch.Generator().manual_seed(2), 3)
    weights = {k: (v + 0.05 * torch.randn_like(v)).requires_grad_() for k, v in (params.weights | own).items()}
    return method, replace(params, weights=weights)


def episodes(shots: int = 1) -> Episodes:
    generator = torch.Generator().manual_seed(1)
    support, query = (torch.randn(2, 3 * n, 1, 16, 16, generator=generator) for n in (shots, 2))
    way = torch.arange(3)
    ways = (way.repeat_interleave(shots), way.repeat_interleave(2))
    return Episodes(support, ways[0], query, ways[1], 3, classes=way.expand(2, -1))


def untraced(graph):
    return graph


@pytest.mark.parametrize(
    ("compile", "seconds", "graph", "device", "compiled"),
    [
        ("auto", 2 * WORTH_COMPILING, False, CPU, False),
        ("auto", 2 * WORTH_COMPILING, False, CUDA, True),
        ("auto", 2 * WORTH_COMPILING, "auto", CUDA, False),
        ("auto", WORTH_COMPILING / 2, False, CUDA, False),
        ("auto", None, False, CUDA, False),
        (True, None, "auto", CUDA, True),
        (False, 2 * WORTH_COMPILING, False, CUDA, False),
    ],
)
def test_when_a_loss_is_compiled(compile, seconds, graph, device, compiled, tiny_settings):
    method, _ = made("protonet", "mlp", tiny_settings)
    settings = tiny_settings.train.model_copy(update={"compile": compile, "max_seconds": seconds, "graph": graph})
    assert (loss_of("protonet", method, settings, device) != method.loss) == compiled


def test_compile_without_a_compiler(tiny_settings):
    found = torch._inductor.cpp_builder.cpp_compiler_search
    method, _ = made("protonet", "mlp", tiny_settings)
    settings = tiny_settings.train.model_copy(update={"compile": True})
    found.cache_clear()  # it remembers the one it found
    message = "no C\\+\\+ compiler here.*g\\+\\+.*compile to auto or false"
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}), pytest.raises(MetaloomError, match=message):
        loss_of("protonet", method, settings, CPU)
    found.cache_clear()


class Annealed(ProtoNet):
    """Changes along the training, as some methods do."""

    def loss(self, params, episodes, generator=None, progress=1.0):
        loss, moved = super().loss(params, episodes, generator, progress)
        return loss * (2 - progress), moved


class Peeking(ProtoNet):
    """Looks at a value, which a graph cannot."""

    def loss(self, params, episodes, generator=None, progress=1.0):
        loss, moved = super().loss(params, episodes, generator, progress)
        return (loss if float(loss.detach()) > 1 else 2 * loss), moved


@pytest.mark.parametrize(("kind", "why"), [(Annealed, "changes as training goes on"), (Peeking, "")])
def test_what_cannot_be_one_graph_is_refused(kind, why, tiny_settings):
    method, params = made("protonet", "mlp", tiny_settings)
    loss = CompiledLoss(kind(method.network, method.settings), "protonet", untraced)
    with pytest.raises(MetaloomError, match=f"protonet cannot be compiled here .*{why}.* `--set train.compile=false`"):
        loss(params, episodes())


def test_dropout_is_not_compiled(tiny_settings):
    method, params = made("protonet", "mlp", tiny_settings)
    with pytest.raises(MetaloomError, match="set network.dropout to 0"):
        CompiledLoss(method, "protonet", untraced)(params, episodes(), torch.Generator())


def test_each_shape_of_episodes_has_its_graph(tiny_settings):
    method, params = made("protonet", "mlp", tiny_settings)
    traced: list[object] = []
    loss = CompiledLoss(method, "protonet", lambda graph: traced.append(graph) or graph)
    for each in (episodes(1), episodes(2), episodes(1)):
        torch.testing.assert_close(loss(params, each)[0], method.loss(params, each)[0])
    assert len(traced) == 2


def test_products_in_bfloat16_are_torch_s():
    x, kernel, matrix = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3), torch.randn(5, 8)
    with in_bfloat16():
        convolved, product = convolution(x, kernel, twice=False), linear(x[:, 0], matrix)
    torch.testing.assert_close(convolved, F.conv2d(x.bfloat16(), kernel.bfloat16(), padding=1))
    torch.testing.assert_close(product, x[:, 0].bfloat16() @ matrix.bfloat16().T)
    assert convolution(x, kernel, twice=False).dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "network", "norm"),
    [(name, "conv4", "batch") for name in METHOD_CLASSES]
    + [("protonet", network, norm) for network in MULTIPLYING for norm in ("batch", "group", "none")],
)
def test_bf16_is_close_and_leaves_float32_behind(name, network, norm, tiny_settings):
    """bfloat16 has 8 bits: a product is right to 1 part in 256, a deep network to a few parts in a hundred."""
    method, params = made(name, network, tiny_settings, norm)
    settings = tiny_settings.train.model_copy(update={"precision": "bf16"})
    exact, _ = method.loss(params, episodes(2))
    with precision_of(settings):
        loss, moved = method.loss(params, episodes(2))
        gradients = torch.autograd.grad(loss, list(params.weights.values()), allow_unused=True)
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=0.2, abs=0.1)
    assert float(loss.detach()) != float(exact.detach())
    kept = [loss, *(each for each in gradients if each is not None), *moved.statistics.values()]
    assert all(each.dtype == torch.float32 and each.isfinite().all() for each in kept)


def test_the_precision_ends_with_the_step(tiny_settings):
    with pytest.raises(KeyError), precision_of(tiny_settings.train.model_copy(update={"precision": "bf16"})):
        raise KeyError
    assert linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize(("precision", "allowed"), [("float32", False), ("tf32", True), ("bf16", False)])
def test_a_precision_is_what_its_name_says(precision, allowed, tiny_settings):
    """And it ends with a training step: what validates goes on in what `choose_device` has set."""
    with tf32(False):
        with precision_of(tiny_settings.train.model_copy(update={"precision": precision})):
            assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == allowed
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(("wanted", "device", "on"), [(True, CUDA, True), (False, CUDA, False), (True, CPU, False)])
def test_a_gpu_repeats_its_bits_where_that_is_wanted(wanted, device, on, tiny_settings):
    settings = tiny_settings.train.model_copy(update={"deterministic": wanted})
    with pytest.raises(KeyError), repeatable(settings, device):
        assert torch.are_deterministic_algorithms_enabled() == on
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()


def test_params_are_the_only_leaves(tiny_settings):
    """The gradient of a compiled loss scales with what it is multiplied by, as autograd's would."""
    method, params = made("protonet", "mlp", tiny_settings)
    loss, _ = CompiledLoss(method, "protonet", untraced)(params, episodes())
    (3 * loss).backward()
    plain = Params({k: v.detach().requires_grad_() for k, v in params.weights.items()}, params.statistics)
    (3 * method.loss(plain, episodes())[0]).backward()
    for name, weight in params.weights.items():
        torch.testing.assert_close(weight.grad, plain.weights[name].grad, rtol=1e-3, atol=1e-5)


def test_the_trainer_takes_both(tiny_settings, tmp_path, monkeypatch):
    """Four steps: compiled they end where plain ones do, in bfloat16 near it."""
    monkeypatch.setattr("metaloom.training.acceleration.check_compiler", lambda device: None)
    monkeypatch.setattr("metaloom.training.acceleration._compiled", lambda n, m: CompiledLoss(m, n, untraced))
    few = {name: tiny_settings.method(name).model_copy(update={"steps": 4}) for name in METHOD_CLASSES}
    settings = tiny_settings.model_copy(update=few)

    def losses(**changes) -> list[float]:
        seen: list[float] = []
        run = trainer("protonet", settings, tmp_path / str(changes), on_step=lambda step, loss: seen.append(loss))
        replace(run, settings=run.settings.model_copy(update=changes)).run()
        return seen

    plain, compiled, lowered = losses(compile=False), losses(compile=True), losses(precision="bf16")
    assert compiled == pytest.approx(plain, rel=1e-2)
    assert lowered == pytest.approx(plain, rel=0.2, abs=0.1) and lowered != plain
