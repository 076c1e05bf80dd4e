#!/usr/bin/env python3
"""Executes notebooks without a browser, in the real kernel, and writes their outputs back.

    pip install -r notebooks/requirements.txt
    python notebooks/run.py                                        # all notebooks of this folder
    python notebooks/run.py notebooks/03_induction_heads.ipynb -p vocab=65 --out /tmp/with-65

A notebook whose cells all succeed is written as a whole, in place or into the folder of --out; one with a cell that fails is left as
it is, the cell and its error are shown, and the exit status is 1. `-p NAME=VALUE` sets a variable that the cell tagged `parameters`
defines: VALUE is a Rust expression, and stands in a cell of its own behind that one. `--answers` tries the Rust code in the answers
to exercises, too, behind all cells: it is not written. `--check` writes nothing, and fails a notebook that shows something else
than what it has stored: it goes with neither --out nor -p.
"""

import argparse
import copy
import math
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

HERE = Path(__file__).resolve().parent
INJECTED = "injected-parameters"
ANSWER = "answer"


class Refused(Exception):
    """What was asked for cannot be done, in words for the user."""


class Failed(Exception):
    """A cell failed; what it is and said."""


def outputs(cell):
    """What a cell said, as text without the colours of a terminal."""
    said = []
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            said.append(output.text)
        elif output.output_type == "error":
            said.append("\n".join(output.traceback) or f"{output.ename}: {output.evalue}")
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(said))


def parameter(text):
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[a-z_][a-z0-9_]*", name.strip()) or not value.strip():
        raise argparse.ArgumentTypeError(f"`{text}` is not NAME=VALUE")
    return name.strip(), value.strip()


def with_parameters(notebook, parameters):
    """The notebook with a cell that sets the parameters behind the one that defines them."""
    cells = [cell for cell in notebook.cells if INJECTED not in cell.metadata.get("tags", [])]
    notebook.cells = cells
    if not parameters:
        return
    places = [at for at, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    if len(places) != 1:
        raise Refused(f"{len(places)} cells are tagged `parameters`, and parameters need one")
    defining = cells[places[0]].source
    for name in parameters:
        if not re.search(rf"^let (mut )?{name}\b", defining, re.MULTILINE):
            raise Refused(f"the cell tagged `parameters` does not define `{name}`")
    source = "\n".join(f"let {name} = {value};" for name, value in parameters.items())
    cell = nbformat.v4.new_code_cell(source, id=INJECTED, metadata={"tags": [INJECTED]})
    cells.insert(places[0] + 1, cell)


# evcxr answers "ok" when a cell returns early by `?` or panics, says so on standard error, and may send what a cell printed only
# when it has said that the cell is done. So each is followed by one that does nothing for a moment: what comes until its end
# belongs to the cell before.
PAUSE = "{ std::thread::sleep(std::time::Duration::from_millis(200)); }"


def is_pause(cell):
    return cell.source == PAUSE


def answers(cells):
    """The Rust code that is folded away in prose, as cells."""
    prose = (cell.source for cell in cells if cell.cell_type == "markdown")
    folded = (text for source in prose for text in re.findall(r"<details>.*?</details>", source, re.DOTALL))
    code = (code for text in folded for code in re.findall(r"^```rust\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    return [nbformat.v4.new_code_cell(source.strip(), metadata={"tags": [ANSWER]}) for source in code]


def is_answer(cell):
    return ANSWER in cell.metadata.get("tags", [])


def is_executed(cell):
    """Whether the client gives the cell to the kernel."""
    return cell.source.strip() and "skip-execution" not in cell.metadata.get("tags", [])


def with_pauses(cells):
    paused = []
    for cell in cells:
        paused.append(cell)
        if cell.cell_type == "code" and is_executed(cell):
            paused.append(nbformat.v4.new_code_cell(PAUSE))
    return paused


class Heard:
    """All that the kernel prints, also between two cells, which nbclient drops: it takes only what answers the cell that it waits for."""

    def __init__(self):
        self.forget()

    def forget(self):
        self.printed = {"stdout": "", "stderr": ""}

    def listen(self, channel):
        get = channel.get_msg

        async def get_and_keep(*args, **kwargs):
            message = await get(*args, **kwargs)
            if message["msg_type"] == "stream":
                self.printed[message["content"]["name"]] += message["content"]["text"]
            return message

        channel.get_msg = get_and_keep


def settle(cell, heard):
    """
    Gives the cell all that it printed. Raises if it failed, though the kernel did not say so: it wrote to standard error, or shows
    no value where it ends in one.
    """
    shown = [output for output in cell.outputs if output.output_type != "stream"]
    streams = [nbformat.v4.new_output("stream", name=name, text=text) for name, text in heard.printed.items() if text]
    cell.outputs = streams + shown
    if heard.printed["stderr"]:
        raise Failed(f"a cell failed:\n\n{cell.source}\n\n{outputs(cell)}")
    last = cell.source.rstrip().rsplit("\n", 1)[-1]
    ends_in_value = not last.endswith((";", "}")) and not last.startswith(":")
    if ends_in_value and not shown:
        raise Failed(f"a cell failed: it ends in a value and shows none:\n\n{cell.source}")


NUMBER = re.compile(r"([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)")
WHOLE = re.compile(r"[-+]?\d+")


def is_near(a, b):
    """A count or a name is right or wrong. Other numbers are shown with four digits: a thousandth is one in the last of them."""
    if a == b:
        return True
    if WHOLE.fullmatch(a) and WHOLE.fullmatch(b):
        return False
    return math.isclose(float(a), float(b), rel_tol=1.001e-3, abs_tol=1.001e-4)


def is_alike(stored, shown):
    """Whether two texts are the same but for their layout and for what another processor rounds otherwise."""
    stored, shown = (re.split(NUMBER, re.sub(r"[\s─═]+", " ", text)) for text in (stored, shown))
    return stored[::2] == shown[::2] and all(is_near(a, b) for a, b in zip(stored[1::2], shown[1::2]))


def shown_words(cell):
    """What a cell shows in words: what it printed, and its value as text and as HTML without the pictures in it."""
    printed = "".join(output.text for output in cell.outputs if output.output_type == "stream")
    data = [output.data for output in cell.outputs if "data" in output]
    html = "".join(data.get("text/html", "") for data in data)
    # Neither pictures, nor the digits that are not shown, nor what numbers are padded with.
    html = re.sub(r"base64,[A-Za-z0-9+/=]+| title=\"[^\"]*\"|\s+(?=<)", "", html)
    return {
        "what is printed": printed,
        "the text": "".join(data.get("text/plain", "") for data in data),
        "the HTML": html,
        "what it is shown as": " ".join(sorted(mime for data in data for mime in data)),
    }


def compare(stored, cells):
    """Raises if cells show something else than what is stored of them."""
    for before, after in zip(stored, cells):
        if after.cell_type != "code":
            continue
        words = shown_words(after)
        for name, text in shown_words(before).items():
            if not is_alike(text, words[name]):
                raise Failed(f"{name} is not what is stored:\n\n{after.source}\n\nstored:\n{text}\n\nnow:\n{words[name]}")


def write(notebook, target):
    """Writes a notebook whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=target.parent, prefix=f".{target.name}.", delete=False, encoding="utf-8") as file:
        nbformat.write(notebook, file)
    os.chmod(file.name, 0o644)
    os.replace(file.name, target)


def execute(path, parameters, wanted):
    started = time.monotonic()
    notebook = nbformat.read(path, as_version=4)
    with_parameters(notebook, parameters)
    stored = copy.deepcopy(notebook.cells)
    if wanted.answers:
        notebook.cells += answers(notebook.cells)
    # On a busy machine a cell's value may come some time after its reply, and a value that is missing must not pass for none.
    client = NotebookClient(
        notebook,
        timeout=wanted.timeout,
        iopub_timeout=60,
        raise_on_iopub_timeout=True,
        kernel_name="rust",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    # What is stored of an earlier time must not be taken for what happens now.
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    run, times, heard = [], [], Heard()

    def begins(cell, cell_index):
        run.append(cell)
        times.append(time.monotonic())
        if not is_pause(cell):
            heard.forget()

    def ends(cell, cell_index, execute_reply):
        times.append(time.monotonic())
        if is_pause(cell):
            settle(run[-2], heard)

    client.on_notebook_start = lambda notebook: heard.listen(client.kc.iopub_channel)
    client.on_cell_execute, client.on_cell_executed = begins, ends
    try:
        notebook.cells = with_pauses(notebook.cells)
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        last = f"{run[-1].source}\n\n{outputs(run[-1])}" if run else ""
        raise Failed(f"a cell failed ({type(error).__name__}):\n\n{last}") from error
    finally:
        cells, notebook.cells = notebook.cells, [cell for cell in notebook.cells if not is_pause(cell) and not is_answer(cell)]
    for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    # The kernel's version is that of the machine, and says nothing of the notebook.
    notebook.metadata.get("language_info", {}).pop("version", None)
    if wanted.check:
        compare(stored, notebook.cells)
        target = path
    else:
        target = wanted.out / path.name if wanted.out else path
        write(notebook, target)
    count = sum(cell.cell_type == "code" and not is_pause(cell) for cell in cells)
    print(f"{target}: {count} cells, {time.monotonic() - started:.0f} s", flush=True)
    if wanted.times:
        print(f"{times[0] - started:7.1f} s until the kernel is there")
        for cell, begun, ended in zip(run, times[::2], times[1::2]):
            if not is_pause(cell):
                print(f"{ended - begun:7.1f} s for {cell.source.splitlines()[0]}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("notebooks", nargs="*", type=Path, help="notebooks; without one all of this folder")
    parser.add_argument("-p", "--parameter", action="append", default=[], type=parameter, metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, help="folder for the executed notebooks, instead of where they are")
    parser.add_argument("--answers", action="store_true", help="try the code in the answers to exercises, too")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if something else is shown than what is stored")
    parser.add_argument("--times", action="store_true", help="tell how long each cell took")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds that a cell may take (1800)")
    arguments = parser.parse_args()
    if arguments.check and (arguments.out or arguments.parameter):
        parser.error("--check compares with what is stored: it goes with neither --out nor --parameter")
    failed = False
    for path in arguments.notebooks or sorted(HERE.glob("*.ipynb")):
        try:
            execute(path.resolve(), dict(arguments.parameter), arguments)
        except (OSError, Refused, Failed, nbformat.reader.NotJSONError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
