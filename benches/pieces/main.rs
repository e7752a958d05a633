//! How long does each hot piece take, and how many instructions? Reading a body, admitting, credentials, rules, refusing,
//! encoding, signing.
//!
//! `cargo bench --bench pieces` measures times and allocations; `-- PART-OF-A-NAME` does so for some of them. Times are as
//! noisy as the machine, allocations are not. `-- --instructions` counts instructions under valgrind's callgrind instead,
//! which says the same every time.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark reports, and stops where it cannot run"
)]

mod desk;
mod gate;
mod instructions;
#[path = "../../tests/support/issuer.rs"]
mod issuer;
mod piece;

use divan::{AllocProfiler, Bencher};
use piece::{PIECES, Piece};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    let asked_for = |flag: &str| std::env::args().any(|argument| argument == flag);
    if asked_for(instructions::UNDER_VALGRIND) {
        instructions::run_pieces();
    } else if asked_for("--instructions") {
        instructions::count();
    } else {
        // What is set up at the first use belongs to no piece.
        PIECES.iter().for_each(|piece| (piece.prepare)()());
        divan::main();
    }
}

#[divan::bench(args = PIECES)]
fn piece(bencher: Bencher<'_, '_>, piece: &Piece) {
    bencher.with_inputs(piece.prepare).bench_local_values(|job| job());
}
