//! `figures --out`: figures for another purpose than the report.

use crate::desk::{Desk, SMALL, assert_same};

fn after_a_run() -> Desk {
    let desk = Desk::with(
        "small.yaml",
        &SMALL.replace("figure: heatmap", "figure: bar").replace("y: layer\n    color: value", "y: value\n    color: layer"),
    );
    desk.run(["run", "small.yaml", "--quiet"]).expect(1);
    desk
}

fn size_of_png(bytes: &[u8]) -> (u32, u32) {
    let reader = png::Decoder::new(bytes).read_info().expect("a PNG");
    (reader.info().width, reader.info().height)
}

/// The pixels of a PNG, `factor` × `factor` of them averaged to one.
fn pixels(bytes: &[u8], factor: usize) -> Vec<f64> {
    let mut reader = png::Decoder::new(bytes).read_info().expect("a PNG");
    let mut buffer = vec![0; reader.output_buffer_size()];
    let (width, height) = (reader.info().width as usize, reader.info().height as usize);
    reader.next_frame(&mut buffer).expect("a whole PNG");
    let mean = |row: usize, column: usize, channel: usize| {
        let places = (0..factor * factor).map(|i| (row * factor + i / factor, column * factor + i % factor));
        places.map(|(y, x)| f64::from(buffer[(y * width + x) * 3 + channel])).sum::<f64>() / (factor * factor) as f64
    };
    let channels = (0..height / factor).flat_map(|y| (0..width / factor).flat_map(move |x| (0..3).map(move |c| (y, x, c))));
    channels.map(|(y, x, c)| mean(y, x, c)).collect()
}

/// However large the PNG, it is the same picture.
#[test]
fn a_larger_png_shows_the_same() {
    let desk = after_a_run();
    let drawn = |scale: &str| {
        desk.run(["figures", "small", "--out", "paper", "--theme", "print", "--width", "300", "--scale", scale]).expect(0);
        desk.tree("paper").0["small/01-matching.png"].clone()
    };
    let small = pixels(&drawn("1"), 1);
    assert!(small.iter().filter(|value| **value < 128.0).count() > 1000, "there is something to see");
    for (scale, factor) in [("2", 2), ("3", 3), ("4", 4), ("6", 6), ("8", 8)] {
        let large = pixels(&drawn(scale), factor);
        assert_eq!(small.len(), large.len());
        let difference = small.iter().zip(&large).map(|(a, b)| (a - b).abs()).sum::<f64>() / small.len() as f64;
        assert!(difference < 1.0, "{scale}: {difference} of 255 on average");
    }
}

fn attribute(svg: &str, name: &str) -> u32 {
    svg.split(&format!(" {name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
}

#[test]
fn figures_for_paper_go_elsewhere_and_the_results_stay() {
    let desk = after_a_run();
    let before = desk.tree("results");
    let finished = desk.run(["figures", "--theme", "print", "--out", "paper"]).expect(0);
    assert_eq!(finished.stdout, "1 figure: paper/small\n");
    assert_same(&before, &desk.tree("results"));
    let paper = desk.tree("paper");
    assert_eq!(paper.names(), ["small/01-matching.png", "small/01-matching.svg"]);
    // Black text, no semi-bold, thin lines, and hatching: more strokes than on the screen.
    let [screen, print] = ["results/small/figures/01-matching.svg", "paper/small/01-matching.svg"].map(|path| desk.read(path));
    assert!(screen.contains("#222222") && !print.contains("#222222") && !print.contains("#4d4d4d"));
    let weights = |svg: &str| svg.split("<path id=\"").skip(1).filter(|id| id.chars().nth(9) == Some('s')).count();
    assert!(weights(&screen) > 0 && weights(&print) == 0);
    let strokes = |svg: &str| svg.matches("stroke-width").count();
    assert!(strokes(&print) > strokes(&screen) + 10, "{} and {}", strokes(&print), strokes(&screen));
    assert_eq!(attribute(&screen, "width"), attribute(&print, "width"));
    // The same bytes every time, in place of the last ones.
    desk.run(["figures", "small.yaml", "--theme", "print", "--out", "paper", "--threads", "1"]).expect(0);
    assert_same(&paper, &desk.tree("paper"));
}

#[test]
fn figures_have_the_width_and_the_scale_that_are_asked_for() {
    let desk = after_a_run();
    let screen = desk.read("results/small/figures/01-matching.svg");
    for (width, scale) in [(400, 1), (400, 2), (500, 3), (400, 4), (400, 6)] {
        let (w, s) = (width.to_string(), scale.to_string());
        desk.run(["figures", "small", "--out", "paper", "--width", &w, "--scale", &s]).expect(0);
        let svg = desk.read("paper/small/01-matching.svg");
        assert_eq!(attribute(&svg, "width"), width);
        let png = size_of_png(&desk.tree("paper").0["small/01-matching.png"]);
        assert_eq!(png, (width * scale, attribute(&svg, "height") * scale));
        assert_ne!(svg, screen);
    }
    // Without anything asked for they are those of the report.
    desk.run(["figures", "small", "--out", "paper"]).expect(0);
    let (results, paper) = (desk.tree("results/small/figures"), desk.tree("paper/small"));
    assert_same(&results, &paper);
}

#[test]
fn figures_do_not_get_among_results() {
    let desk = after_a_run();
    let before = desk.tree("");
    for out in ["results", "results/small", "results/small/figures", "results/small/new/one", "new/../results/small"] {
        desk.run(["figures", "small", "--out", out]).expect_error(2, &["holds results of a run", "choose another folder"]);
        assert_same(&before, &desk.tree(""));
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(desk.path("results/small/figures"), desk.path("link")).unwrap();
        desk.run(["figures", "small", "--out", "link"]).expect_error(2, &["link/small: lies in ", "holds results of a run"]);
    }
    desk.run(["verify", "--quiet"]).expect(0);
    // A manifest of something else is in nobody's way.
    desk.write("web/manifest.json", "{ \"name\": \"a web page\" }");
    desk.run(["figures", "small", "--out", "web/figures"]).expect(0);
}

#[test]
fn two_that_would_be_drawn_into_one_folder_are_refused() {
    let desk = after_a_run();
    desk.run(["run", "small.yaml", "--out", "other", "--quiet"]).expect(1);
    desk.run(["figures", "results/small", "other/small", "--out", "paper"])
        .expect_error(2, &["other/small: would be drawn into the same folder as results/small"]);
    assert!(!desk.path("paper").exists());
    // Two names of the same results.
    let finished = desk.run(["figures", "results/small", "./results/small", "--out", "paper"]).expect(0);
    assert_eq!(finished.stdout, "1 figure: paper/small\n");
    #[cfg(unix)]
    {
        // Also among all results.
        std::os::unix::fs::symlink("small", desk.path("results/latest")).unwrap();
        for whole in [&[][..], &["results"]] {
            let finished = desk.run(["figures", "--out", "all"].iter().chain(whole)).expect(0);
            assert_eq!(finished.stdout, "1 figure: all/small\n");
        }
    }
}

/// A limit on the size of files stands for a disk without room: writing stops in the middle.
#[cfg(unix)]
#[test]
fn the_last_figures_stay_until_the_new_ones_are_there() {
    let desk = after_a_run();
    desk.run(["figures", "small", "--out", "paper"]).expect(0);
    let before = desk.tree("paper");
    let program = env!("CARGO_BIN_EXE_attn-circuits");
    let script = format!("trap '' XFSZ; ulimit -f 1; exec '{program}' figures small --out paper --width 300");
    let finished = desk.run_command::<&str>(desk.command_of("sh").args(["-c", &script]), &[]);
    finished.expect_error(3, &["error: paper/small/01-matching.svg: "]);
    assert_same(&before, &desk.tree("paper"));
}

#[test]
fn the_figures_of_the_results_are_not_changed_in_passing() {
    let desk = after_a_run();
    let before = desk.tree("results");
    for option in [["--theme", "print"], ["--width", "400"], ["--scale", "4"]] {
        let part = "name another folder for them with --out DIR";
        desk.run(["figures", "results/small"].iter().chain(&option)).expect_error(2, &[part]);
    }
    desk.run(["figures", "--theme", "print", "--out", "results"])
        .expect_error(2, &["results/small: holds results of a run", "choose another folder"]);
    desk.run(["figures", "--theme", "neon", "--out", "paper"]).expect_error(2, &["screen, print"]);
    desk.run(["figures", "--scale", "5", "--out", "paper"]).expect_error(2, &["'5'"]);
    desk.run(["figures", "--width", "20", "--out", "paper"]).expect_error(2, &["200..=2400"]);
    assert_same(&before, &desk.tree("results"));
}
