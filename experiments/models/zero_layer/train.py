"""Models without layers, trained on the text of a chain. See README.md beside this file."""

import pathlib
import sys

here = pathlib.Path(__file__).parent
sys.path.insert(0, str(here.parent))
from training import check_gradients, initial_weights, log_softmax, save, train  # noqa: E402

import numpy as np  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

LENGTH, BATCH, STEPS = 64, 128, 4000


def text(chain, rng):
    """Sequences [BATCH, LENGTH] of the chain with these sums of probabilities, from token 0 on."""
    tokens = np.zeros((BATCH, LENGTH), np.int64)
    for position in range(1, LENGTH):
        past = rng.random(BATCH)[:, None] >= chain[tokens[:, position - 1]]
        tokens[:, position] = np.minimum(past.sum(axis=1), len(chain) - 1)
    return tokens


def main(exported):
    exact = load_file(f"{exported}/weights.safetensors")
    log_p = log_softmax(exact["embed.W_E"].astype(float) @ exact["unembed.W_U"].astype(float))
    chain = np.exp(log_p).cumsum(axis=1)
    for folder, d_model in (("wide", 32), ("narrow", 4)):
        rng = np.random.default_rng([4, d_model])
        weights = initial_weights(rng, len(chain), d_model, 0, 0)
        print(f"{folder}: gradient against differences {check_gradients(weights, text(chain, rng), rng):.1e}", flush=True)
        weights = train(weights, [text(chain, rng) for _ in range(STEPS)], rate=0.01, decay=0.0)
        save(here / folder, weights, LENGTH)


main(sys.argv[1])
