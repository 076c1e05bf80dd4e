#![no_main]

#[path = "../feed.rs"]
mod feed;
#[path = "../guard.rs"]
mod guard;

libfuzzer_sys::fuzz_target!(init: guard::set(), |data: &[u8]| guard::guarded(|folder| feed::results(folder, data)));
