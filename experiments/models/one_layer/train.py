"""A small language of named tokens, and models of no and one layer trained on it. See README.md beside this file."""

import json
import pathlib
import sys

here = pathlib.Path(__file__).parent
sys.path.insert(0, str(here.parent))
from training import check_gradients, forward, initial_weights, log_softmax, save, train  # noqa: E402

import numpy as np  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

LENGTH = 24
VERBS, PREPOSITIONS, ENDS = ["keep", "put", "set"], ["in", "at", "on"], ["mind", "bay", "fire"]
# Every end stands once in every row and column: neither the verb alone nor the preposition alone tells it.
IDIOMS = {
    "keep": {"in": "mind", "at": "bay", "on": "fire"},
    "put": {"in": "bay", "at": "fire", "on": "mind"},
    "set": {"in": "fire", "at": "mind", "on": "bay"},
}
# A name is one token where it first stands, and two where it comes again.
NAMES = {"Ralph": ("R", "alph"), "Ruth": ("R", "uth"), "Lloyd": ("L", "loyd"), "Lena": ("L", "ena")}
NOUNS = ["cat", "dog", "tree", "house", "river", "stone", "bread", "moon"]
TOKENS = ["<s>", ".", *VERBS, *PREPOSITIONS, *ENDS, *NAMES, "R", "L", "alph", "uth", "loyd", "ena", *NOUNS]
NUMBER = {token: number for number, token in enumerate(TOKENS)}


def sequence(rng):
    """One sequence: a start token, a verb and a name in either order, then nouns between idioms and names, to its length."""
    verb, name = rng.choice(VERBS), rng.choice(list(NAMES))
    topic = rng.choice(NOUNS, 2, replace=False)
    words = ["<s>", verb, name] if rng.random() < 0.5 else ["<s>", name, verb]
    while len(words) < LENGTH:
        words += list(rng.choice(topic, rng.integers(1, 4)))
        if rng.random() < 0.6:
            preposition = rng.choice(PREPOSITIONS)
            words += [preposition, IDIOMS[verb][preposition], "."]
        else:
            words += [*NAMES[name], "."]
    return [NUMBER[word] for word in words[:LENGTH]]


def main():
    tokens = np.array([sequence(np.random.default_rng([1, index])) for index in range(40_000)])
    held_out = np.array([sequence(np.random.default_rng([2, index])) for index in range(64)])
    with open(here / "tokens.json", "w") as file:
        json.dump(TOKENS, file)
        file.write("\n")
    save_file({"tokens": held_out.astype(np.int64)}, here / "inputs.safetensors")
    print(" ".join(TOKENS[token] for token in held_out[0]))

    for folder, heads, d_head in (("no_heads", 0, 0), ("one_head", 1, 32), ("four_heads", 4, 8)):
        rng = np.random.default_rng([3, heads])
        weights = initial_weights(rng, len(TOKENS), 32, heads, d_head)
        print(f"{folder}: gradient against differences {check_gradients(weights, tokens[:4], rng):.1e}", flush=True)
        batches = [tokens[rng.integers(0, len(tokens), 128)] for _ in range(3000)]
        weights = train(weights, batches, rate=0.01, decay=0.01)
        save(here / folder, weights, LENGTH)

        losses = -np.take_along_axis(log_softmax(forward(weights, held_out)[0][:, :-1]), held_out[:, 1:, None], 2)[..., 0]
        before = np.array(TOKENS)[held_out[:, :-1]]
        for kind, where in (("idiom", PREPOSITIONS), ("name", ["R", "L"])):
            print(f"  held out, after {kind}: {losses[np.isin(before, where)].mean():.4f}")
        print(f"  held out, all: {losses.mean():.4f}", flush=True)


main()
