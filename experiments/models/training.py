"""Attention-only models of no or one layer without positions, trained by Adam in numpy: used by the scripts `*/train.py`.

Every matrix product, and its derivative, is written out; nothing is drawn but from the generator that is handed in, so that a
script gives the same weights again on the same machine (with one BLAS thread: products are then summed in one order).
"""

import os

for threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"

import json
import time

import numpy as np
from safetensors.numpy import save_file


def initial_weights(rng, vocab, d_model, heads, d_head):
    """Gaussian weights; a model of no heads has embedding and unembedding only. Shapes are TransformerLens', one layer."""
    def draw(*shape, fan_in):
        return rng.normal(0.0, 0.5 / np.sqrt(fan_in), shape)

    weights = {"W_E": rng.normal(0.0, 0.5 / np.sqrt(d_model), (vocab, d_model)), "W_U": draw(d_model, vocab, fan_in=d_model)}
    if heads:
        for name in ("W_Q", "W_K", "W_V"):
            weights[name] = draw(heads, d_model, d_head, fan_in=d_model)
        weights["W_O"] = draw(heads, d_head, d_model, fan_in=heads * d_head)
    return weights


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def forward(weights, tokens):
    """Logits [B, n, V], and what the backward pass needs."""
    x = weights["W_E"][tokens]
    kept = {"x": x}
    out = x
    if "W_Q" in weights:
        n, d_head = tokens.shape[1], weights["W_Q"].shape[2]
        q, k, v = (np.einsum("bnd,hdk->bhnk", x, weights[name], optimize=True) for name in ("W_Q", "W_K", "W_V"))
        scores = q @ k.swapaxes(2, 3) / np.sqrt(d_head)
        scores = np.where(np.tril(np.ones((n, n), bool)), scores, -np.inf)
        pattern = np.exp(log_softmax(scores))
        z = pattern @ v
        out = x + np.einsum("bhnk,hkd->bnd", z, weights["W_O"], optimize=True)
        kept |= {"q": q, "k": k, "v": v, "pattern": pattern, "z": z}
    kept["out"] = out
    return out @ weights["W_U"], kept


def loss_and_gradients(weights, tokens):
    """Mean loss in nats of every token but the first, and its derivative by every weight."""
    logits, kept = forward(weights, tokens)
    log_p = log_softmax(logits[:, :-1])
    targets = tokens[:, 1:, None]
    count = targets.size
    loss = -np.take_along_axis(log_p, targets, axis=2).sum() / count

    d_logits = np.zeros_like(logits)
    d_logits[:, :-1] = np.exp(log_p) / count
    at_target = np.take_along_axis(d_logits[:, :-1], targets, axis=2) - 1.0 / count
    np.put_along_axis(d_logits[:, :-1], targets, at_target, axis=2)

    vocab, d_model = weights["W_E"].shape
    gradients = {"W_U": kept["out"].reshape(-1, d_model).T @ d_logits.reshape(-1, vocab)}
    d_out = d_logits @ weights["W_U"].T
    d_x = d_out.copy()
    if "W_Q" in weights:
        x, q, k, v, pattern, z = (kept[name] for name in ("x", "q", "k", "v", "pattern", "z"))
        gradients["W_O"] = np.einsum("bhnk,bnd->hkd", z, d_out, optimize=True)
        d_z = np.einsum("bnd,hkd->bhnk", d_out, weights["W_O"], optimize=True)
        d_pattern = d_z @ v.swapaxes(2, 3)
        d_scores = pattern * (d_pattern - (d_pattern * pattern).sum(axis=3, keepdims=True)) / np.sqrt(q.shape[3])
        for name, d_part in (("W_Q", d_scores @ k), ("W_K", d_scores.swapaxes(2, 3) @ q), ("W_V", pattern.swapaxes(2, 3) @ d_z)):
            gradients[name] = np.einsum("bnd,bhnk->hdk", x, d_part, optimize=True)
            d_x += np.einsum("bhnk,hdk->bnd", d_part, weights[name], optimize=True)
    gradients["W_E"] = np.zeros_like(weights["W_E"])
    np.add.at(gradients["W_E"], tokens.ravel(), d_x.reshape(-1, d_model))
    return loss, gradients


def check_gradients(weights, tokens, rng, step=1e-5):
    """The largest relative error of the derivative along random directions against differences of the loss."""
    _, gradients = loss_and_gradients(weights, tokens)
    worst = 0.0
    for name, gradient in gradients.items():
        direction = rng.normal(size=gradient.shape)
        moved = [loss_and_gradients(weights | {name: weights[name] + sign * step * direction}, tokens)[0] for sign in (1, -1)]
        numeric = (moved[0] - moved[1]) / (2 * step)
        analytic = float((gradient * direction).sum())
        worst = max(worst, abs(numeric - analytic) / (abs(numeric) + abs(analytic) + 1e-12))
    return worst


def train(weights, batches, rate, decay):
    """Adam (β 0.9, 0.99) with decoupled weight decay; the rate rises over 100 steps and falls to 0 along a cosine.

    `batches` are the token arrays [B, n], one a step.
    """
    moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in weights.items()}
    started = time.time()
    for step, tokens in enumerate(batches, 1):
        loss, gradients = loss_and_gradients(weights, tokens)
        now = rate * min(1.0, step / 100) * 0.5 * (1 + np.cos(np.pi * step / len(batches)))
        for name, gradient in gradients.items():
            first, second = moments[name]
            first += 0.1 * (gradient - first)
            second += 0.01 * (gradient**2 - second)
            move = first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
            weights[name] = weights[name] - now * (move + decay * weights[name])
        if step % 500 == 0 or step == len(batches):
            print(f"step {step:5}  loss {loss:.4f}  {time.time() - started:.0f} s", flush=True)
    return weights


def save(folder, weights, context):
    """`weights.safetensors` and `config.json` in TransformerLens' names. No positions: rotary ones that turn nothing."""
    os.makedirs(folder, exist_ok=True)
    vocab, d_model = weights["W_E"].shape
    heads, _, d_head = weights["W_Q"].shape if "W_Q" in weights else (1, None, d_model)
    tensors = {"embed.W_E": weights["W_E"], "unembed.W_U": weights["W_U"]}
    tensors |= {f"blocks.0.attn.{name}": weights[name] for name in ("W_Q", "W_K", "W_V", "W_O") if name in weights}
    save_file({name: np.ascontiguousarray(w, np.float32) for name, w in tensors.items()}, f"{folder}/weights.safetensors")
    config = {
        "n_layers": int("W_Q" in weights), "n_heads": heads, "d_model": d_model, "d_head": d_head,
        "d_vocab": vocab, "d_vocab_out": vocab, "n_ctx": context, "attn_only": True, "normalization_type": None,
        "positional_embedding_type": "rotary", "rotary_dim": 0, "attention_dir": "causal",
        "use_attn_scale": True, "attn_scale": float(np.sqrt(d_head)),
    }
    with open(f"{folder}/config.json", "w") as file:
        json.dump(config, file, indent=1)
        file.write("\n")
