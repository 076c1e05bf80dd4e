//! Runs that are killed, that meet, and that find no room.

use crate::desk::{Desk, SMALL, Tree, assert_same};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// As often is a run killed.
const KILLED: usize = 200;

/// The same experiment with other results.
fn other() -> String {
    SMALL.replace("seed: 7", "seed: 8").replace("name: matching", "name: other").replace("of: matching", "of: other")
}

fn start(desk: &Desk, arguments: &[&str]) -> Child {
    let mut command = desk.command();
    command.args(["run", "small.yaml"]).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the program starts")
}

/// What a whole run of each text leaves.
fn wholes() -> [Tree; 2] {
    [SMALL.to_string(), other()].map(|text| {
        let desk = Desk::with("small.yaml", &text);
        desk.run(["run", "small.yaml"]).expect(1);
        desk.tree("results/small").reproducible()
    })
}

/// A generator that is good enough for moments.
fn moments() -> impl FnMut() -> f64 {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[test]
fn a_run_that_is_killed_leaves_the_last_results_or_the_new_ones() {
    let wholes = wholes();
    let desk = Desk::with("small.yaml", SMALL);
    let clock = Instant::now();
    desk.run(["run", "small.yaml"]).expect(1);
    // How long a run takes, as it seems: of those that compute everything, and of those that find it in the cache.
    let mut lasts = [clock.elapsed(); 2];
    let mut moment = moments();
    let (mut last, mut changed, mut died, mut left) = (0, 0, 0, 0);
    let mut round = 0;
    while died < KILLED {
        round += 1;
        assert!(round < 4 * KILLED, "{died} of {round} runs were killed before their end");
        let text = if round % 2 == 0 { other() } else { SMALL.to_string() };
        desk.write("small.yaml", &text);
        let kind = round / 2 % 2;
        let mut child = start(&desk, if kind == 0 { &["--force"] } else { &[] });
        let whole_run = lasts[kind];
        if round % 3 == 0 {
            // Of the time in which files are moved there is little: wait until the run has begun to write.
            let until = Instant::now() + whole_run;
            let begun = || fs::read_dir(desk.path("results")).unwrap().count() > 3;
            while !begun() && Instant::now() < until {
                sleep(Duration::from_micros(200));
            }
            sleep(whole_run.mul_f64(0.6 * moment()));
        } else {
            sleep(whole_run.mul_f64(moment()));
        }
        let ended = child.try_wait().expect("a process of ours");
        let in_time = ended.is_none();
        died += usize::from(in_time);
        // As fast as the machine is just now.
        lasts[kind] = whole_run.mul_f64(if in_time { 1.01 } else { 0.95 });
        child.kill().expect("a process of ours");
        child.wait().expect("a process of ours");

        // A run that came to its end did all that it does: it says that a claim fails, and takes away what others have left.
        if let Some(status) = ended {
            assert_eq!((status.code(), beside(&desk)), (Some(1), vec!["index.html".to_string(), "small".to_string()]));
        }
        // There has been one since the first run.
        let page = desk.read("results/index.html");
        assert!(page.trim_end().ends_with("</html>"), "round {round}: half a page of {} bytes", page.len());
        let tree = desk.tree("results/small").reproducible();
        let now = wholes.iter().position(|whole| *whole == tree);
        let now = now.unwrap_or_else(|| panic!("round {round}: neither the last results nor the new ones: {:?}", tree.names()));
        changed += usize::from(now != last);
        last = now;
        left += fs::read_dir(desk.path("results")).unwrap().count() - 2;
    }
    // The test would be worth nothing if all were killed before they had begun to write, or only after their end.
    assert!(changed > 0 && left > 0, "{changed} changed, {left} left something over");
    desk.write("small.yaml", SMALL);
    desk.run(["run", "small.yaml", "--force"]).expect(1);
    assert_same(&wholes[0], &desk.tree("results/small").reproducible());
    assert_eq!(beside(&desk), ["index.html", "small"]);
}

/// What lies in the folder of all results.
fn beside(desk: &Desk) -> Vec<String> {
    let entries = fs::read_dir(desk.path("results")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_second_run_waits_for_the_first_and_says_so() {
    let desk = Desk::with("small.yaml", SMALL);
    fs::create_dir(desk.path("results")).unwrap();
    // A run that takes long, as others see it.
    let held = File::create(desk.path("results/.small.lock")).unwrap();
    held.lock().unwrap();
    let mut command = desk.command();
    command.args(["run", "small.yaml"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert_eq!(first, "small.yaml: another run is writing results/small; waiting until it is done");
    sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none() && !desk.path("results/small").exists(), "it did not wait");
    fs::remove_file(desk.path("results/.small.lock")).unwrap();
    drop(held);
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{rest:?}");
    assert_eq!(beside(&desk), ["index.html", "small"]);
}

/// Also if there is nothing else to do.
#[test]
fn what_killed_runs_have_left_goes_with_the_next_run() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.run(["run", "small.yaml"]).expect(1);
    let before = desk.tree("results");
    for path in ["results/.small.partial-aB3xyz/tables/loss.csv", "results/.index.html.partial-aB3xyz", "results/.small.lock"] {
        desk.write(path, "half");
    }
    let finished = desk.run(["run", "small.yaml"]).expect(1);
    assert!(finished.stderr.contains("up to date"), "{finished:#?}");
    assert_same(&before, &desk.tree("results"));
}

#[test]
fn runs_at_the_same_time_are_all_whole() {
    let [whole, _] = wholes();
    let desk = Desk::with("small.yaml", SMALL);
    let children: Vec<_> = (0..6).map(|i| start(&desk, if i % 2 == 0 { &["--force"] } else { &[] })).collect();
    for mut child in children {
        assert_eq!(child.wait().unwrap().code(), Some(1));
    }
    assert_same(&whole, &desk.tree("results/small").reproducible());
    assert_eq!(beside(&desk), ["index.html", "small"]);
}

/// A limit on the size of files stands for a disk without room: writing fails in the middle of a file.
#[cfg(unix)]
#[test]
fn without_room_the_last_results_stay() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.run(["run", "small.yaml"]).expect(1);
    let before = desk.tree("results");
    desk.write("small.yaml", other());
    let program = env!("CARGO_BIN_EXE_attn-circuits");
    // Blocks of 512 bytes: the tables fit, the report does not; nothing does.
    for blocks in [40, 8, 1] {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec '{program}' run small.yaml --force");
        let finished = desk.run_command::<&str>(desk.command_of("sh").args(["-c", &script]), &[]).expect(3);
        let said = finished.stderr.lines().find(|line| line.starts_with("error: results/small/"));
        assert!(said.is_some_and(|line| line.contains("the last results are as they were")), "{finished:#?}");
        assert_same(&before, &desk.tree("results"));
    }
    // The cache has lost nothing either: what could not be written is not there.
    desk.run(["run", "small.yaml"]).expect(1);
    let fresh = Desk::with("small.yaml", &other());
    fresh.run(["run", "small.yaml"]).expect(1);
    assert_same(&fresh.tree("results/small").reproducible(), &desk.tree("results/small").reproducible());
}

/// Runs the program as a user who may read results and cache but write neither.
#[cfg(unix)]
fn run_as_reader(desk: &Desk, arguments: &[&str]) -> crate::desk::Finished {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let mode = |path: &std::path::Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let results = desk.path("results");
    mode(&desk.path(""), 0o755);
    mode(&results, 0o555);
    for name in Tree::of(desk.cache()).names() {
        let entry = desk.cache().join(name);
        mode(&entry, 0o644);
        // Its folder is private as well.
        mode(entry.parent().expect("an entry lies in a folder"), 0o755);
    }
    mode(desk.cache(), 0o755);
    let mut command = desk.command();
    // The superuser may write everywhere, so it has to be somebody else; and that one may not see where the program lies.
    if fs::metadata(&results).unwrap().uid() == 0 {
        let copy = desk.path("program");
        // With its time: the same program as far as the cache can tell. Not written by this process: a child that another thread
        // starts meanwhile would have the file open for writing, and such a file cannot be run.
        let copied = Command::new("cp").arg("-p").arg(env!("CARGO_BIN_EXE_attn-circuits")).arg(&copy).status();
        assert!(copied.unwrap().success());
        command = desk.command_of(copy.to_str().unwrap());
        command.uid(65534).gid(65534);
    }
    let finished = desk.run_command(&mut command, arguments);
    mode(&results, 0o755);
    finished
}

#[cfg(unix)]
#[test]
fn a_folder_that_is_read_only_is_named_and_stays() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.run(["run", "small.yaml"]).expect(1);
    let before = desk.tree("results");
    let finished = run_as_reader(&desk, &["run", "small.yaml", "--force", "--quiet", "--cache", "/nowhere"]);
    let finished = finished.expect_error(3, &["ermission denied"]);
    assert!(finished.stderr.starts_with("error: results/"), "{finished:#?}");
    assert_same(&before, &desk.tree("results"));
}

/// Nothing has to be written there, not even to find that out.
#[cfg(unix)]
#[test]
fn results_that_are_up_to_date_may_be_read_only() {
    let desk = Desk::with("small.yaml", SMALL);
    desk.run(["run", "small.yaml"]).expect(1);
    let before = desk.tree("results");
    let finished = run_as_reader(&desk, &["run", "small.yaml"]).expect(1);
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:#?}");
    assert!(finished.stderr.starts_with("small.yaml: up to date"), "{finished:#?}");
    assert_same(&before, &desk.tree("results"));
}
