"""What is held constant, with derivatives worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fiftyone_sfam.network.held import HeldHead

Function = Callable[[Tensor], Tensor]


def values(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def jacobian(function: Function, x: Tensor) -> tuple[Tensor, HeldHead]:
    """Return the held derivative, (outputs, inputs), of an unchanged function."""
    leaf = x.clone().requires_grad_(True)
    head = HeldHead()
    with head:
        # The copy may be changed in place.
        y = function(leaf.clone())
    assert torch.allclose(y, function(x.clone()), rtol=1e-6, atol=1e-9)
    rows = [
        torch.autograd.grad(value, leaf, retain_graph=True)[0].flatten()
        for value in y.flatten()
    ]
    return torch.stack(rows), head


def check(function: Function, x: Tensor, expected: Tensor, held: int) -> None:
    """Compare the held derivative, and how many values are held."""
    found, head = jacobian(function, x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert head.count == held


def diagonal(gates: Tensor) -> Tensor:
    return torch.diag(gates.flatten())


def centering(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64) - 1 / size


# --------------------------------------------------------------------------------------
# Normalization
# --------------------------------------------------------------------------------------


def test_layer_norm_after_the_average() -> None:
    """``C(p) = W (gamma / sigma) centred(A(p)) / (h w)``."""
    maps, weight = values(1, 6, 3, 2), values(4, 6, seed=1)
    gamma, beta = values(6, seed=2), values(6, seed=3)

    def head(maps: Tensor) -> Tensor:
        pooled = maps.mean((2, 3))
        return F.layer_norm(pooled, (6,), gamma, beta, 1e-5) @ weight.T

    found, held = jacobian(head, maps)
    contributions = found.unflatten(1, (6, 6)) * maps.flatten(2)
    average = maps.mean((2, 3))[0]
    sigma = (average.var(correction=0) + 1e-5).sqrt()
    centred = maps[0].flatten(1) - maps[0].flatten(1).mean(0)
    by_hand = weight @ (gamma[:, None] / sigma * centred) / 6
    torch.testing.assert_close(contributions.sum(1), by_hand)
    # What is left is the norm's bias.
    torch.testing.assert_close(head(maps)[0] - by_hand.sum(1), weight @ beta)
    assert (held.count, held.count_inside) == (1, 1)


def test_layer_norm() -> None:
    x, gamma = values(6), values(6, seed=1)
    sigma = (x.var(correction=0) + 1e-5).sqrt()
    expected = diagonal(gamma / sigma) @ centering(6)
    module = nn.LayerNorm(6).double().requires_grad_(False)
    module.weight.copy_(gamma)
    check(lambda x: F.layer_norm(x, [6], gamma), x, expected, 1)
    check(module, x, expected, 1)

    def by_hand(x: Tensor) -> Tensor:
        x = x - x.mean()
        return gamma * x / (x.pow(2).mean() + 1e-5).sqrt()

    check(by_hand, x, expected, 1)
    check(
        lambda x: gamma * (x - x.mean()) * torch.rsqrt(x.var(correction=0) + 1e-5),
        x,
        expected,
        1,
    )


def test_rms_norm() -> None:
    x, gamma = values(2, 5), values(5, seed=1)
    rms = (x.square().mean(1, keepdim=True) + 1e-6).sqrt()
    expected = diagonal(gamma / rms)
    check(lambda x: F.rms_norm(x, (5,), gamma, 1e-6), x, expected, 1)
    check(
        lambda x: x * (x.pow(2).mean(1, keepdim=True) + 1e-6).rsqrt() * gamma,
        x,
        expected,
        1,
    )


def test_group_norm() -> None:
    x, gamma, beta = values(1, 4, 3), values(4, seed=1), values(4, seed=2)
    groups = x.reshape(2, 6)
    sigma = (groups.var(1, correction=0) + 1e-5).sqrt().repeat_interleave(6)
    expected = diagonal(gamma.repeat_interleave(3) / sigma)
    expected = expected @ torch.block_diag(centering(6), centering(6))
    check(lambda x: F.group_norm(x, 2, gamma, beta), x, expected, 1)


def test_instance_norm() -> None:
    x = values(1, 3, 4)
    sigma = (x.var(2, correction=0) + 1e-5).sqrt().flatten().repeat_interleave(4)
    expected = diagonal(1 / sigma) @ torch.block_diag(*[centering(4)] * 3)
    check(F.instance_norm, x, expected, 1)
    check(nn.InstanceNorm1d(3), x, expected, 1)
    # Running statistics do not depend on the image.
    mean, variance = values(3, seed=1), values(3, seed=2).exp()
    check(
        lambda x: F.instance_norm(x, mean, variance, use_input_stats=False),
        x,
        diagonal((variance + 1e-5).rsqrt().repeat_interleave(4)),
        0,
    )


def test_global_response_norm() -> None:
    """``x + gamma x N(x) + beta``, with ``N`` the length over its mean, is held."""
    x, gamma, beta = values(1, 3, 2, 2), values(3, 1, 1, seed=1), values(3, 1, 1)
    length = x.norm(dim=(2, 3), keepdim=True)
    gate = 1 + gamma * length / (length.mean(1, keepdim=True) + 1e-6)

    def norm(x: Tensor) -> Tensor:
        length = x.norm(p=2, dim=(2, 3), keepdim=True)
        scale = length / (length.mean(1, keepdim=True) + 1e-6)
        return x + torch.addcmul(beta, gamma, x * scale)

    check(norm, x, diagonal(gate.expand_as(x)), 2)


@pytest.mark.parametrize(
    "scaled",
    [
        lambda x: F.normalize(x, dim=1),
        lambda x: x / x.norm(dim=1, keepdim=True),
        lambda x: x / torch.linalg.vector_norm(x, dim=1, keepdim=True),
        lambda x: x / x.square().sum(1, keepdim=True).sqrt(),
        lambda x: x * x.pow(2).sum(1, keepdim=True).rsqrt(),
        lambda x: x.div_(x.norm(dim=1, keepdim=True)),
    ],
    ids=["normalize", "norm", "linalg", "sqrt", "rsqrt", "in place"],
)
def test_the_length_of_an_embedding(scaled: Function) -> None:
    x = values(2, 3)
    expected = diagonal((1 / x.norm(dim=1, keepdim=True)).expand_as(x))
    check(scaled, x, expected, 1)
    # It is no reason to explain the network at another layer.
    assert jacobian(scaled, x)[1].count_inside == 0


@pytest.mark.parametrize(
    "scaled",
    [
        lambda parts: F.normalize(parts, dim=1).flatten(1),
        lambda parts: (parts / parts.norm(dim=1, keepdim=True)).flatten(1),
    ],
)
def test_parts_that_are_scaled_one_by_one(scaled: Function) -> None:
    parts = values(1, 4, 3, 1)
    expected = diagonal((1 / parts.norm(dim=1, keepdim=True)).expand_as(parts))
    check(scaled, parts, expected, 1)
    assert jacobian(scaled, parts)[1].count_inside == 1


# --------------------------------------------------------------------------------------
# Attention
# --------------------------------------------------------------------------------------


class Projections:
    """Projections of four tokens, and the expected derivative of their attention."""

    def __init__(self, heads: int) -> None:
        self.tokens = values(1, 4, 6)
        self.heads = heads
        self.weights = [values(6, 6, seed=seed) / 2 for seed in (1, 2, 3)]

    def split(self, tokens: Tensor) -> list[Tensor]:
        """Return queries, keys and values, (1, heads, tokens, size)."""
        return [
            (tokens @ weight.T).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for weight in self.weights
        ]

    def expected(self, attention: Tensor) -> Tensor:
        """Differentiate ``y_i = sum_j a_ij W x_j`` of each head by hand."""
        size = 6 // self.heads
        rows = torch.zeros(4, 6, 4, 6, dtype=torch.float64)
        for head in range(self.heads):
            part = slice(head * size, (head + 1) * size)
            for i in range(4):
                for j in range(4):
                    rows[i, part, j] = attention[head, i, j] * self.weights[2][part]
        return rows.reshape(24, 24)

    @property
    def softmax(self) -> Tensor:
        query, key, _ = self.split(self.tokens)
        logits = query @ key.mT / (6 // self.heads) ** 0.5
        return logits.softmax(-1)[0]


def joined(tokens: Tensor) -> Tensor:
    return tokens.transpose(1, 2).flatten(2)


def test_fused_attention() -> None:
    given = Projections(2)

    def attention(tokens: Tensor) -> Tensor:
        return joined(F.scaled_dot_product_attention(*given.split(tokens)))

    check(attention, given.tokens, given.expected(given.softmax), 2)


def test_attention_written_out() -> None:
    given = Projections(2)

    def matrix(tokens: Tensor) -> Tensor:
        query, key, value = given.split(tokens)
        weights = (query @ key.transpose(-2, -1) * 3**-0.5).softmax(dim=-1)
        return joined(F.dropout(weights, 0.5, training=False) @ value)

    def einsum(tokens: Tensor) -> Tensor:
        query, key, value = given.split(tokens)
        logits = torch.einsum("bhid,bhjd->bhij", query, key) * 3**-0.5
        weights = torch.softmax(logits, -1)
        return joined(torch.einsum("bhij,bhjd->bhid", weights, value))

    for function in (matrix, einsum):
        found, head = jacobian(function, given.tokens)
        torch.testing.assert_close(found, given.expected(given.softmax))
        assert head.count == head.count_inside > 0


@pytest.mark.parametrize("need_weights", [True, False])
def test_the_module_of_attention(need_weights: bool) -> None:
    given = Projections(2)
    module = nn.MultiheadAttention(6, 2, batch_first=True).double()
    module.requires_grad_(False).eval()
    module.in_proj_weight.copy_(torch.cat(given.weights))
    module.out_proj.weight.copy_(torch.eye(6))

    def attention(tokens: Tensor) -> Tensor:
        result: Tensor = module(tokens, tokens, tokens, need_weights=need_weights)[0]
        return result

    found, head = jacobian(attention, given.tokens)
    torch.testing.assert_close(found, given.expected(given.softmax))
    assert head.count == 2


def test_attention_of_a_learned_query() -> None:
    """``y = sum_j a_j x_j`` of keys that are the tokens themselves."""
    tokens, query = values(1, 5, 3), values(1, 1, 3, seed=1)
    attention = (query @ tokens.mT).softmax(-1)
    expected = torch.kron(attention[0], torch.eye(3, dtype=torch.float64))
    check(lambda x: (query @ x.mT).softmax(-1) @ x, tokens, expected, 1)
    check(
        lambda x: F.scaled_dot_product_attention(query, x, x, scale=1.0),
        tokens,
        expected,
        1,
    )


def test_attention_over_channels() -> None:
    """Cross-covariance attention mixes channels: ``y = softmax(q^T k) v``."""
    tokens = values(1, 4, 3)

    def attention(tokens: Tensor) -> Tensor:
        unit = F.normalize(tokens, dim=1)
        weights = (unit.mT @ unit).softmax(-1)
        return tokens @ weights.mT

    unit = tokens / tokens.norm(dim=1, keepdim=True)
    weights = (unit.mT @ unit).softmax(-1)[0]
    found, _ = jacobian(attention, tokens)
    eye = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(found, torch.kron(eye, weights))


def test_linear_attention() -> None:
    """``y_i = sum_j w_ij v_j`` with ``w_ij = f(q_i) f(k_j) / sum_l f(q_i) f(k_l)``."""
    given = Projections(1)

    def attention(tokens: Tensor) -> Tensor:
        query, key, value = (item[:, 0] for item in given.split(tokens))
        query, key = F.relu(query), F.relu(key)
        length = query @ key.sum(1, keepdim=True).mT
        return query @ (key.mT @ value) / (length + 1e-6)

    query, key, _ = (item[0, 0] for item in given.split(given.tokens))
    products = query.relu() @ key.relu().T
    weights = products / (products.sum(1, keepdim=True) + 1e-6)
    found, _ = jacobian(attention, given.tokens)
    torch.testing.assert_close(found, given.expected(weights[None]))


# --------------------------------------------------------------------------------------
# Gates
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (F.gelu, 0.5),
        (lambda x: F.gelu(x, approximate="tanh"), 0.5),
        (F.silu, 0.5),
        (lambda x: F.silu(x, inplace=True), 0.5),
        (F.hardswish, 0.5),
        (lambda x: F.hardswish(x, inplace=True), 0.5),
        (F.mish, 0.6),
        (F.elu, 1.0),
        (F.selu, 1.0507009873554805),
        (torch.tanh, 1.0),
        (lambda x: x.tanh(), 1.0),
        (nn.GELU(), 0.5),
        (nn.SiLU(inplace=True), 0.5),
        (nn.ELU(inplace=True), 1.0),
        (nn.Tanh(), 1.0),
    ],
)
def test_smooth_activations(function: Function, slope: float) -> None:
    x = torch.tensor([-5.0, -1.5, -1e-9, 0.0, 1e-9, 0.3, 2.0, 50.0]).double()
    gates = function(x.clone()) / torch.where(x == 0, 1, x)
    # Close to 0 the quotient would be rounding.
    gates[2:5] = slope
    check(function, x, diagonal(gates), 1)


@pytest.mark.parametrize(
    "function",
    [
        F.relu,
        lambda x: F.relu(x, inplace=True),
        F.leaky_relu,
        F.relu6,
        lambda x: F.prelu(x, torch.tensor([0.2]).double()),
        lambda x: F.max_pool1d(x[None, None], 2)[0, 0],
        lambda x: x.amax(0, keepdim=True),
    ],
)
def test_what_is_piecewise_linear_is_left_alone(function: Function) -> None:
    x = values(8)
    leaf = x.clone().requires_grad_(True)
    plain = torch.autograd.functional.jacobian(lambda x: function(x.clone()), leaf)
    check(function, x, plain, 0)


def test_squeeze_and_excitation() -> None:
    maps, weight = values(1, 3, 2, 2), values(3, 3, seed=1)
    gate = torch.sigmoid(maps.mean((2, 3)) @ weight)[:, :, None, None]
    expected = diagonal(gate.expand_as(maps))

    def gate_of(maps: Tensor) -> Tensor:
        return torch.sigmoid(maps.mean((2, 3)) @ weight)[:, :, None, None]

    check(lambda x: x * gate_of(x), maps, expected, 1)
    check(lambda x: gate_of(x) * x, maps, expected, 1)
    check(lambda x: x * gate_of(x).expand_as(x), maps, expected, 1)
    check(lambda x: x.mul_(gate_of(x)), maps, expected, 1)
    hard = F.hardsigmoid(maps.mean((2, 3)) @ weight)[:, :, None, None]
    check(
        lambda x: x * F.hardsigmoid(x.mean((2, 3)) @ weight)[:, :, None, None],
        maps,
        diagonal(hard.expand_as(maps)),
        1,
    )


def test_gates_of_one_size() -> None:
    """SwiGLU, GEGLU and GLU are linear in the branch without activation."""
    x, first, second = values(4), values(4, 4, seed=1), values(4, 4, seed=2)
    swish = F.silu(first @ x)
    expected = diagonal(swish) @ second
    check(lambda x: F.silu(first @ x) * (second @ x), x, expected, 2)
    check(lambda x: (second @ x) * F.silu(first @ x), x, expected, 2)
    gate = torch.sigmoid(first @ x)
    expected = diagonal(gate) @ second
    joint = torch.cat([second, first])
    check(lambda x: F.glu(joint @ x, 0), x, expected, 1)
    check(lambda x: (second @ x) * torch.sigmoid(first @ x), x, expected, 1)

    def chunked(x: Tensor) -> Tensor:
        value, gate = (joint @ x).chunk(2)
        return value * gate.sigmoid()

    check(chunked, x, expected, 1)


def test_half_of_each_of_two_equal_factors() -> None:
    x, first, second = values(4), values(4, 4, seed=1), values(4, 4, seed=2)
    expected = (diagonal(second @ x) @ first + diagonal(first @ x) @ second) / 2
    check(lambda x: (first @ x) * (second @ x), x, expected, 2)


def test_a_gate_written_by_hand() -> None:
    """Swish and its relatives, as older code has them."""
    x = values(5)
    check(lambda x: x * torch.sigmoid(x), x, diagonal(torch.sigmoid(x)), 1)
    check(
        lambda x: x * torch.sigmoid(1.702 * x), x, diagonal(torch.sigmoid(1.702 * x)), 1
    )
    check(lambda x: x * F.relu6(x + 3) / 6, x, diagonal(F.relu6(x + 3) / 6), 1)
    mish = torch.tanh(F.softplus(x))
    check(lambda x: x * torch.tanh(F.softplus(x)), x, diagonal(mish), 2)


def test_kernels_that_are_made_from_the_image() -> None:
    x, weight = values(1, 2, 5), values(6, 2, seed=1)

    def kernel(x: Tensor) -> Tensor:
        return (weight @ x.mean(2)[0]).reshape(1, 2, 3)

    plain = torch.autograd.functional.jacobian(
        lambda x: F.conv1d(x, kernel(values(1, 2, 5))).flatten(), x
    )
    check(lambda x: F.conv1d(x, kernel(x)), x, plain.reshape(3, 10), 1)


def test_a_whole_head_without_biases_adds_up() -> None:
    """A head that is homogeneous once it is held carries everything."""
    tokens = values(1, 4, 6)
    weights = [values(6, 6, seed=seed) for seed in range(1, 5)]

    def head(x: Tensor) -> Tensor:
        unit = F.layer_norm(x, (6,))
        mixed = F.scaled_dot_product_attention(
            *(unit @ weight for weight in weights[:3])
        )
        x = x + mixed
        x = x + F.gelu(F.rms_norm(x, (6,)) @ weights[3])
        return F.normalize(F.layer_norm(x, (6,)).mean(1), dim=1)

    found, head_held = jacobian(head, tokens)
    torch.testing.assert_close(found @ tokens.flatten(), head(tokens)[0])
    assert head_held.count_inside == head_held.count - 1


def test_parameters_are_no_values_of_the_image() -> None:
    """A product with a layer scale or a softmax of weights is left alone."""
    x, scale = values(2, 3), values(3, seed=1)
    weights = values(3, 3, seed=2)
    mixing = weights.softmax(1)
    check(lambda x: x * scale, x, diagonal(scale.expand(2, 3)), 0)
    check(
        lambda x: x @ weights.softmax(1).T,
        x,
        torch.block_diag(mixing, mixing),
        0,
    )
    check(lambda x: x / scale.norm(), x, diagonal((1 / scale.norm()).expand(2, 3)), 0)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * (F.relu6(x + 3) / 6),
        lambda x: x * (0.5 * F.hardtanh(x + 3, 0, 6)) / 3,
    ],
)
def test_a_gate_that_is_scaled_by_a_number(function: Function) -> None:
    """The Hardswish of older code: ``x * (relu6(x + 3) / 6)``."""
    x = values(5)
    check(function, x, diagonal(F.relu6(x + 3) / 6), 1)


def test_gelu_written_by_hand() -> None:
    x = values(5)
    expected = diagonal(0.5 * (1 + torch.erf(x / 2**0.5)))
    check(lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)), x, expected, 1)
    check(lambda x: x * 0.5 * (1.0 + torch.erf(x / 2**0.5)), x, expected, 1)
    tanh = torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))

    def by_tanh(x: Tensor) -> Tensor:
        inner = (2 / torch.pi) ** 0.5 * (x + 0.044715 * torch.pow(x, 3.0))
        return 0.5 * x * (1.0 + torch.tanh(inner))

    found, _ = jacobian(by_tanh, x)
    torch.testing.assert_close(found, diagonal(0.5 * (1 + tanh)))


def test_gates_with_a_constant() -> None:
    """``1 + gate`` and ``2 gate`` are gates too."""
    x, weight = values(4), values(4, 4, seed=1)
    gate = torch.sigmoid(weight @ x)
    check(lambda x: x * (1 + torch.sigmoid(weight @ x)), x, diagonal(1 + gate), 1)
    check(lambda x: x * (1 - torch.sigmoid(weight @ x)), x, diagonal(1 - gate), 1)
    check(lambda x: x * (2 * torch.sigmoid(weight @ x)), x, diagonal(2 * gate), 1)


def test_the_smaller_factor_is_the_gate_also_after_an_activation() -> None:
    """MobileNetV3's and GhostNet's older code scale what ReLU returned."""
    maps, weight = values(1, 3, 2, 2), values(3, 3, seed=1)

    def scaled(maps: Tensor) -> Tensor:
        maps = F.relu(maps)
        gate = F.relu6(maps.mean((2, 3)) @ weight + 3) / 6
        return maps * gate[:, :, None, None]

    gate = F.relu6(F.relu(maps).mean((2, 3)) @ weight + 3) / 6
    expected = diagonal(gate[:, :, None, None] * (maps > 0))
    check(scaled, maps, expected, 1)


def test_global_response_norm_after_gelu() -> None:
    """As in ConvNeXtV2."""
    x = values(1, 3, 2, 2)

    def norm(x: Tensor) -> Tensor:
        x = F.gelu(x)
        length = x.norm(p=2, dim=(2, 3), keepdim=True)
        return x * (length / (length.mean(1, keepdim=True) + 1e-6))

    y = F.gelu(x)
    length = y.norm(dim=(2, 3), keepdim=True)
    gate = length / (length.mean(1, keepdim=True) + 1e-6) * (y / x)
    found, _ = jacobian(norm, x)
    torch.testing.assert_close(found, diagonal(gate.expand_as(x)))


def test_a_bias_of_attention_that_depends_on_the_image() -> None:
    x, query = values(1, 4, 3), values(1, 4, 3, seed=5)
    weights = (query @ query.mT / 3**0.5 + x @ x.mT).softmax(-1)[0]
    found, _ = jacobian(
        lambda x: F.scaled_dot_product_attention(query, query, x, attn_mask=x @ x.mT), x
    )
    eye = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(found, torch.kron(weights, eye))


def test_cosines_to_fixed_vectors() -> None:
    """Without the length held they would have no derivative along ``x``."""
    x, others = values(1, 3), values(4, 3, seed=1)
    unit = others / others.norm(dim=1, keepdim=True)
    found, _ = jacobian(lambda x: F.cosine_similarity(x, others), x)
    torch.testing.assert_close(found, unit / x.norm())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.linalg.matmul(x[:, None], x[None]),
        lambda x: torch.outer(x, x),
        lambda x: torch.addmm(torch.zeros(3, 3).double(), x[:, None], x[None]),
        lambda x: torch.tensordot(x[:, None], x[None], 1),
    ],
)
def test_products_of_the_image_with_itself_are_counted_once(function: Function) -> None:
    """``J A = y``; without holding it is ``2 y``, and the remainder ``-y``."""
    x = values(3)
    found, _ = jacobian(function, x)
    torch.testing.assert_close(found @ x, function(x).flatten())
