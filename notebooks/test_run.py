#!/usr/bin/env python3
"""Tests run.py: a broken cell fails, in whatever way it breaks, and the notebook stays as it was.

    python notebooks/test_run.py
"""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import nbformat
import run

RUN = Path(run.__file__).resolve()

# run.py, but that a second passes before each cell.
SLOWLY = """
import asyncio, run

class Slow(run.NotebookClient):
    async def async_execute_cell(self, *args, **kwargs):
        await asyncio.sleep(1)
        return await super().async_execute_cell(*args, **kwargs)

run.NotebookClient = Slow
run.main()
"""


class Run(unittest.TestCase):
    def run_cells(self, *cells, arguments=(), tagged=None, prose=None, slowly=False):
        """Executes a notebook of these cells; gives the exit status, what was said on standard error, what each cell showed."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata.kernelspec = {"name": "rust", "display_name": "Rust", "language": "rust"}
        if prose is not None:
            notebook.cells.append(nbformat.v4.new_markdown_cell(prose))
        if tagged is not None:
            notebook.cells[tagged].metadata.tags = ["parameters"]
        # Not among the notebooks: without their evcxr.toml, and so without the library.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "some.ipynb"
            nbformat.write(notebook, path)
            before = path.read_bytes()
            script = ["-Bc", SLOWLY] if slowly else [RUN]
            command = [sys.executable, *script, path, *arguments]
            ended = subprocess.run(command, capture_output=True, text=True, cwd=RUN.parent)
            if ended.returncode != 0:
                self.assertEqual(path.read_bytes(), before, "a notebook that failed was written")
            text = lambda output: output.get("text", "") + output.get("data", {}).get("text/plain", "")
            cells = nbformat.read(path, as_version=4).cells
            shown = ["".join(text(output) for output in cell.get("outputs", [])) for cell in cells]
            self.assertEqual([file.name for file in Path(folder).iterdir()], [path.name], "files are left behind")
        return ended.returncode, ended.stderr, shown

    def assert_fails(self, *cells, saying):
        status, error, _ = self.run_cells(*cells)
        self.assertEqual(status, 1, error)
        self.assertIn(saying, error)

    def test_outputs_are_written_back(self):
        status, error, shown = self.run_cells("let x = 20;", "x + 1", 'println!("printed");')
        self.assertEqual((status, shown), (0, ["", "21", "printed\n"]), error)

    def test_what_does_not_compile_fails(self):
        self.assert_fails("let x = 1;", "x + missing", saying="cannot find value `missing`")

    def test_a_panic_fails(self):
        self.assert_fails('panic!("on purpose")', "1", saying="panicked")

    def test_an_error_that_is_returned_fails(self):
        self.assert_fails('let n: i32 = "seven".parse()?;', saying="invalid digit found")

    def test_an_error_in_the_last_cell_fails(self):
        self.assert_fails("1", 'let n: i32 = "seven".parse::<i32>()?;\nn', saying="a cell failed")

    def test_what_is_printed_between_two_cells_belongs_to_the_one_before(self):
        cell = 'std::thread::spawn(|| {{ std::thread::sleep(std::time::Duration::from_millis(200)); {}("late"); }}); 7'
        status, error, shown = self.run_cells(cell.format("println!"), "8", slowly=True)
        self.assertEqual((status, shown), (0, ["late\n7", "8"]), error)
        status, error, _ = self.run_cells(cell.format("eprintln!"), slowly=True)
        self.assertEqual(status, 1, error)
        self.assertIn("late", error)

    def test_a_process_that_dies_fails(self):
        self.assert_fails("std::process::abort();", saying="a cell failed")

    def test_a_cell_that_takes_too_long_fails(self):
        status, error, _ = self.run_cells(
            "std::thread::sleep(std::time::Duration::from_secs(600));", arguments=["--timeout", "1"]
        )
        self.assertEqual(status, 1, error)
        self.assertIn("CellTimeoutError", error)

    def test_parameters_are_set(self):
        status, error, shown = self.run_cells("let period = 5;", "period * 2", arguments=["-p", "period=21"], tagged=0)
        self.assertEqual((status, shown), (0, ["", "", "42"]), error)

    def test_a_parameter_that_is_not_there_is_refused(self):
        status, error, _ = self.run_cells("let period = 5;", arguments=["-p", "perod=21"], tagged=0)
        self.assertEqual(status, 1, error)
        self.assertIn("does not define `perod`", error)

    def test_answers_are_tried_and_not_written(self):
        prose = "<details><summary>Answer</summary>\n\n```rust\n{}\n```\n</details>"
        status, error, shown = self.run_cells("let x = 20;", prose=prose.format("x + 1"), arguments=["--answers"])
        self.assertEqual((status, shown), (0, ["", ""]), error)
        status, error, _ = self.run_cells("let x = 20;", prose=prose.format("x + missing"), arguments=["--answers"])
        self.assertEqual(status, 1, error)
        self.assertIn("cannot find value `missing`", error)

    def test_what_is_stored_is_compared(self):
        cells = [nbformat.v4.new_code_cell("let x = 1.0 / 3.0;"), nbformat.v4.new_code_cell('println!("{x:.4} of 7"); x')]
        notebook = nbformat.v4.new_notebook(cells=cells)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "some.ipynb"

            def run(*arguments):
                command = [sys.executable, RUN, path, *arguments]
                return subprocess.run(command, capture_output=True, text=True)

            nbformat.write(notebook, path)
            self.assertEqual(run().returncode, 0)
            stored = path.read_text()
            for text, status in [(stored.replace("0.3333 of", "0.3334 of"), 0), (stored.replace("0.3333 of", "0.3343 of"), 1)]:
                self.assertNotEqual(text, stored)
                path.write_text(text)
                ended = run("--check")
                self.assertEqual(ended.returncode, status, ended.stderr)
                self.assertEqual(path.read_text(), text)
                self.assertEqual("is not what is stored" in ended.stderr, bool(status), ended.stderr)
                self.assertNotIn("Traceback", ended.stderr)
            self.assertEqual(run("--check", "--out", folder).returncode, 2)

    def test_only_rounding_and_layout_may_differ(self):
        for stored, shown, alike in [
            ("loss 2.365", "loss  2.364", True),
            ("loss 2.365", "loss 2.375", False),
            ("1e-7", "2e-7", True),
            ("1.000", "1", True),
            ("0.00005", "-0.00001", True),
            ("accuracy = 1", "accuracy = 0.5", False),
            ("auc 0.99", "auc 0.98", False),
            ("head 1.2", "head 1.3", False),
            ("17 of 64", "18 of 64", False),
            ("NaN", "0.5", False),
            ("╞═══╪", "╞════╪", True),
        ]:
            self.assertEqual(run.is_alike(stored, shown), alike, (stored, shown))

        def words(data):
            output = nbformat.v4.new_output("execute_result", data=data)
            return run.shown_words(nbformat.v4.new_code_cell("x", outputs=[output]))

        before = words({"text/html": '<td title="3.42999">3.43 </td><img src="data:image/svg+xml;base64,AB+/=">'})
        after = words({"text/html": '<td>3.429</td><img src="data:image/svg+xml;base64,CD">'})
        self.assertTrue(all(run.is_alike(before[name], after[name]) for name in before), (before, after))
        self.assertNotEqual(words({"text/plain": "x", "image/svg+xml": "s"}), words({"text/plain": "x"}))

    def test_a_cell_that_is_empty_is_passed_over(self):
        status, error, shown = self.run_cells("", "7", "")
        self.assertEqual((status, shown), (0, ["", "7", ""]), error)

    def test_a_file_that_is_no_notebook_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text.ipynb"
            path.write_text("not JSON")
            ended = subprocess.run([sys.executable, RUN, path], capture_output=True, text=True)
        self.assertEqual(ended.returncode, 1)
        self.assertIn("text.ipynb", ended.stderr)
        self.assertNotIn("Traceback", ended.stderr)


if __name__ == "__main__":
    unittest.main()
